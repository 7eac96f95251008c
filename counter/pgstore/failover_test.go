package pgstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/pgtest"
)

// pair starts a primary and its synchronous standby. The URL names both.
func pair(t *testing.T) (primary, standby *pgtest.Cluster, url string) {
	t.Helper()
	primary = pgtest.New(t)
	standby = primary.Standby("second")
	primary.Synchronous("second")
	// The standby comes first: who doesn't look for the primary is found out.
	return primary, standby, pgtest.URL([]string{standby.Addr(), primary.Addr()}, pgtest.Superuser)
}

// TestFailover: the primary dies under load, the standby takes over. No hit
// that was answered is lost, and the replicas find the new primary.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby, url := pair(t)
	l := newLedger(t)
	o := testOptions(t)
	o.Timeout = 20 * time.Second
	stores := []*Store{mustOpen(t, url, o), mustOpen(t, url, o)}
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := l.add(bg, s, rand.Int64N(20)); err != nil {
					t.Errorf("a batch failed: %v", err)
				}
			}
		})
	}
	waitFor(t, "some hits", func() bool { return l.answered.Load() > 2000 })
	primary.Kill()
	standby.Promote()
	promoted := time.Now()
	after := l.answered.Load()
	waitFor(t, "hits after the failover", func() bool { return l.answered.Load() > after })
	t.Logf("counting resumed %v after the promotion", time.Since(promoted).Round(time.Millisecond))
	waitFor(t, "some hits", func() bool { return l.answered.Load() > after+2000 })
	cancel()
	wg.Wait()
	for _, s := range stores {
		l.checkStore(s)
	}
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("no %s in 30 s", what)
		}
	}
}

// TestCommittedOnPrimaryOnly: the standby is cut off, and a commit that waits
// for it is interrupted. It is then visible on the primary, but it was on no
// standby: neither its batch nor a read of anybody may be answered on its
// strength. After the failover it has never happened, and the retry counts it.
func TestCommittedOnPrimaryOnly(t *testing.T) {
	t.Parallel()
	const waiting = "pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'counterd'"
	for name, interrupt := range map[string]func(primary *pgtest.Cluster){
		"terminated": func(p *pgtest.Cluster) { p.Exec("SELECT pg_terminate_backend(pid) FROM " + waiting) },
		"cancelled":  func(p *pgtest.Cluster) { p.Exec("SELECT pg_cancel_backend(pid) FROM " + waiting) },
		"crashed":    func(p *pgtest.Cluster) { p.Kill(); p.Start() },
		"restarted":  func(p *pgtest.Cluster) { p.StopFast(); p.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary, standby, url := pair(t)
			o := testOptions(t)
			o.Timeout = 40 * time.Second
			writer, reader := mustOpen(t, url, o), mustOpen(t, url, o)
			mustAdd(t, writer, 5, 5)
			mustAdd(t, reader, 0, 5)
			standby.CutOff()

			type answer struct {
				total int64
				err   error
			}
			written, read := make(chan answer, 1), make(chan answer, 1)
			go func() { total, err := add(bg, writer, 7); written <- answer{total, err} }()
			primary.Await("SELECT 1 FROM " + waiting)
			interrupt(primary)
			// The retry has found the batch applied, and waits for the standby too.
			primary.Await("SELECT 1 FROM counterd_counter WHERE value = 12")
			primary.Await("SELECT 1 FROM " + waiting)
			go func() { total, err := add(bg, reader, 0); read <- answer{total, err} }()
			primary.Await("SELECT 1 FROM pg_stat_activity WHERE application_name = 'counterd' AND wait_event IS DISTINCT FROM 'ClientRead' HAVING count(*) >= 2")
			select {
			case a := <-written:
				t.Fatalf("the batch was answered %+v while it was on the primary only", a)
			case a := <-read:
				t.Fatalf("a read was answered %+v while the count was on the primary only", a)
			default:
			}

			primary.Kill()
			if got := standby.Query("SELECT value FROM counterd_counter"); got != "5" {
				t.Fatalf("the standby has %s, want 5: the test is not about what it says", got)
			}
			standby.Promote()
			if a := <-written; a.err != nil || a.total != 12 {
				t.Errorf("the batch: %+v, want 12", a)
			}
			if a := <-read; a.err != nil || a.total != 5 && a.total != 12 {
				t.Errorf("the read: %+v, want 5 or 12", a)
			}
			mustAdd(t, reader, 0, 12)
			if got := value(t, standby); got != "12" {
				t.Errorf("count %s, want 12", got)
			}
		})
	}
}
