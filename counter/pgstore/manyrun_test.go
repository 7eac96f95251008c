package pgstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/pgstore"
	"github.com/counterd/counterd/internal/pgtest"
)

const (
	manyNames = 200
	manyRoom  = 180 // what is left of them finds no room
)

// TestManyFaultRun: four replicas count on 200 names, with room for 180, while
// connections die and stand still at each stage of a batch, backends are
// terminated and killed, and the database is frozen and killed. What is answered
// for each name, and for the sum, must be that of one counter; what was refused
// once stays refused.
func TestManyFaultRun(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	t.Parallel()
	c := pgtest.New(t)
	r := &manyRun{began: time.Now(), of: map[string]*[]op{}, refused: map[string]bool{}}
	var faulty atomic.Bool
	var proxies []*pgtest.Proxy
	var stores []*pgstore.Store
	for range replicas {
		p := faultyProxy(t, c, &faulty)
		proxies = append(proxies, p)
		stores = append(stores, openMany(t, pgtest.URL([]string{p.Addr()}, pgtest.Superuser)))
	}

	faulty.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for ctx.Err() == nil {
				r.add(t, i, s)
			}
		})
	}
	done := map[string]int{}
	for time.Since(r.began) < *faultRun {
		time.Sleep(50*time.Millisecond + rand.N(300*time.Millisecond))
		switch bad := rand.IntN(20); {
		case bad < 9:
			done["terminate backends"]++
			c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counterd'")
		case bad < 13:
			done["cut a replica's connections"]++
			proxies[rand.IntN(len(proxies))].CutAll()
		case bad < 16:
			done["freeze the database"]++
			c.Pause()
			time.Sleep(rand.N(300 * time.Millisecond))
			c.Resume()
		case bad < 18:
			done["kill a backend"]++
			c.KillBackend("application_name = 'counterd' ORDER BY random() LIMIT 1")
			c.Await("SELECT 1")
		default:
			done["kill the database"]++
			c.Kill()
			c.Start()
		}
	}
	faulty.Store(false)
	cancel()
	wg.Wait()
	t.Logf("in %v: %v", *faultRun, done)
	r.check(t, c, stores)

	var ambiguous, resolved, found uint64
	for _, s := range stores {
		st := s.Stats()
		ambiguous, resolved, found = ambiguous+st.Ambiguous, resolved+st.Resolved, found+st.FoundApplied
	}
	t.Logf("%d ambiguous batches, %d resolved, %d of them found applied", ambiguous, resolved, found)
	if want := uint64(50 * *faultRun / time.Minute); resolved < want {
		t.Errorf("only %d ambiguous batches were resolved, want %d: too little harm was done", resolved, want)
	}
	if got := c.Query("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"); got != "0" {
		t.Errorf("%s deadlocks", got)
	}
}

// TestFailoverOfManyNames: the primary dies under load, its synchronous standby
// takes over. No hit on any name that was answered is lost or counted twice.
func TestFailoverOfManyNames(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	t.Parallel()
	primary := pgtest.New(t)
	standby := primary.Standby("second")
	primary.Synchronous("second")
	url := pgtest.URL([]string{standby.Addr(), primary.Addr()}, pgtest.Superuser)
	r := &manyRun{began: time.Now(), of: map[string]*[]op{}, refused: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	stores := make([]*pgstore.Store, 2)
	for i := range stores {
		stores[i] = openMany(t, url)
		wg.Go(func() {
			for ctx.Err() == nil {
				r.add(t, i, stores[i])
			}
		})
	}
	r.await(t, 200)
	primary.Kill()
	standby.Promote()
	r.await(t, r.batches()+200)
	cancel()
	wg.Wait()
	r.check(t, standby, stores)
}

func openMany(t *testing.T, url string) *pgstore.Store {
	t.Helper()
	s, err := pgstore.Open(context.Background(), url, pgstore.Options{
		PerPath: true, MaxCounters: manyRoom, Timeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// manyRun is what the clients of many names saw.
type manyRun struct {
	began time.Time

	mu      sync.Mutex
	sum     []op
	answers int // to batches
	of      map[string]*[]op
	refused map[string]bool
}

func (r *manyRun) batches() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers
}

// await waits until so many batches have been answered.
func (r *manyRun) await(t *testing.T, n int) {
	t.Helper()
	for began := time.Now(); r.batches() < n; time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d batches in 30 s, want %d", r.batches(), n)
		}
	}
}

// add does one batch: some names, or all at once.
func (r *manyRun) add(t *testing.T, client int, s *pgstore.Store) {
	some := rand.Perm(manyNames)[:1+rand.IntN(30)]
	if rand.IntN(20) == 0 {
		some = rand.Perm(manyNames)
	}
	ds := make([]counter.Delta, len(some))
	for i, n := range some {
		ds[i] = counter.Delta{Name: fmt.Appendf(nil, "/%d", n), Hits: max(0, rand.Int64N(5)-1)}
	}
	start := time.Since(r.began)
	sum, err := s.Add(context.Background(), ds)
	end := time.Since(r.began)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.answers++
	}
	hits, parts := int64(0), int64(0)
	for _, d := range ds {
		o := op{client: client, start: start, end: end, unknown: err != nil, value: d.Total}
		name := string(d.Name)
		if r.of[name] == nil {
			r.of[name] = new([]op)
		}
		if err == nil && d.Refused {
			r.refused[name] = true
			if d.Hits == 0 {
				t.Errorf("a read of %s was refused", name)
			}
			continue
		}
		note(r.of[name], o, d.Hits)
		hits += d.Hits
		parts += d.Total
	}
	note(&r.sum, op{client: client, start: start, end: end, unknown: err != nil, value: sum}, hits)
	if err == nil && len(some) == manyNames && parts != sum {
		t.Errorf("the sum is %d, its parts are %d", sum, parts)
	}
}

// note appends an operation of several hits, the last of which got o.value, or of
// none.
func note(history *[]op, o op, hits int64) {
	if hits == 0 {
		o.read = true
		if !o.unknown {
			*history = append(*history, o)
		}
		return
	}
	last := o.value
	for i := range hits {
		if !o.unknown {
			o.value = last - hits + 1 + i
		}
		*history = append(*history, o)
	}
}

func (r *manyRun) check(t *testing.T, c *pgtest.Cluster, stores []*pgstore.Store) {
	t.Helper()
	ds := make([]counter.Delta, manyNames)
	for n := range ds {
		ds[n].Name = fmt.Appendf(nil, "/%d", n)
	}
	for i, s := range stores {
		start := time.Since(r.began)
		sum, err := s.Add(context.Background(), ds)
		if err != nil {
			t.Fatal(err)
		}
		o := op{client: -1 - i, start: start, end: time.Since(r.began), read: true, value: sum}
		r.sum = append(r.sum, o)
		for _, d := range ds {
			o.value = d.Total
			if h := r.of[string(d.Name)]; h != nil {
				*h = append(*h, o)
			}
		}
	}
	total, err := check(r.sum)
	if err != nil {
		t.Errorf("the sum: %v", err)
	}
	var all verdict
	exist := 0
	for _, d := range ds {
		if d.Total > 0 {
			exist++
		}
		h := r.of[string(d.Name)]
		if h == nil {
			continue
		}
		v, err := check(*h)
		if err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		if r.refused[string(d.Name)] && d.Total > 0 {
			t.Errorf("%s was refused, and has %d", d.Name, d.Total)
		}
		all.add(v)
	}
	if exist != manyRoom {
		t.Errorf("%d names, room for %d", exist, manyRoom)
	}
	want := c.Query("SELECT sum(value) || ' ' || count(*) || ' ' || sum(octet_length(name)) FROM counterd_path")
	if got := c.Query("SELECT value || ' ' || names || ' ' || name_bytes FROM counterd_counter"); got != want {
		t.Errorf("sum, names and bytes are %s, counted they are %s", got, want)
	}
	t.Logf("%d hits answered on %d names, %d reads, %d hits without an answer of which %d were counted; %d windows checked, and %d of the sum",
		all.hits, exist, all.reads, all.unknown, all.counted, all.windows, total.windows)
}
