package pgstore

import (
	"sync"
	"testing"

	"github.com/counterd/counterd/internal/pgtest"
)

// TestPgBouncer: five replicas share two connections in transaction mode, with
// PgBouncer's default settings, and connections die under it.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	addr := c.PgBouncer(2)
	l := newLedger(t)
	stores := make([]*Store, 5)
	for i := range stores {
		stores[i] = mustOpen(t, pgtest.URL([]string{addr}, pgtest.Superuser), testOptions(t))
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for range 200 {
				if err := l.add(bg, s, 3); err != nil {
					t.Errorf("a batch failed: %v", err)
				}
			}
		})
	}
	for l.answered.Load() < 5*200*3/2 {
		c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counterd'")
	}
	wg.Wait()
	for _, s := range stores {
		l.checkStore(s)
	}
	for _, s := range stores {
		if !s.conf.pooled {
			t.Error("a store took its session for its own")
		}
	}
	if got := value(t, c); got != "3000" {
		t.Errorf("count %s, want 3000", got)
	}
	if got := c.Query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counterd'"); got > "2" {
		t.Errorf("%s connections: the pool was not in between", got)
	}
}
