package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/pgtest"
)

// isBatch tells whether a message is a batch, in either of its two forms.
func isBatch(sql string) bool { return strings.HasPrefix(sql, "BEGIN ISOLATION") }

func isBatchOf(sql string, hits int) bool {
	return isBatch(sql) && (strings.Contains(sql, fmt.Sprintf("value+%d ", hits)) || strings.Contains(sql, fmt.Sprintf("',%d,'", hits)))
}

// bothForms runs a test with prepared statements and with plain SQL.
func bothForms(t *testing.T, test func(t *testing.T, open func(url string, o Options) *Store)) {
	t.Parallel()
	for name, pooled := range map[string]bool{"prepared": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(url string, o Options) *Store {
				s := mustOpen(t, url, o)
				s.conf.pooled = pooled
				t.Cleanup(func() {
					if s.session == nil || s.session.prepared == pooled {
						t.Errorf("the session was not used as %s", name)
					}
				})
				return s
			})
		})
	}
}

// ledger checks the totals that stores answer: all ranges different, none
// beyond what was sent, none below what had been answered before.
type ledger struct {
	t        testing.TB
	sent     atomic.Int64
	answered atomic.Int64

	mu   sync.Mutex
	took map[int64]bool
	top  int64 // the highest total answered so far
}

func newLedger(t testing.TB) *ledger { return &ledger{t: t, took: map[int64]bool{}} }

// add sends a batch and checks its answer. It returns the store's error.
func (l *ledger) add(ctx context.Context, s *Store, n int64) error {
	l.mu.Lock()
	floor := l.top
	l.mu.Unlock()
	l.sent.Add(n)
	total, err := add(ctx, s, n)
	if err != nil {
		return err
	}
	l.answered.Add(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	if total < floor+n {
		l.t.Errorf("Add(%d) = %d, but %d had been answered before", n, total, floor)
	}
	for i := total - n + 1; i <= total; i++ {
		if l.took[i] {
			l.t.Errorf("number %d was answered twice", i)
		}
		l.took[i] = true
	}
	l.top = max(l.top, total)
	return nil
}

// check compares with the count of the database.
func (l *ledger) check(count int64) {
	l.t.Helper()
	if count < l.answered.Load() || count > l.sent.Load() || count < l.top {
		l.t.Errorf("count %d, answered %d (up to number %d), sent %d", count, l.answered.Load(), l.top, l.sent.Load())
	}
}

func (l *ledger) checkStore(s *Store) {
	l.t.Helper()
	total, err := add(bg, s, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	l.check(total)
}

// TestFaultAtEveryStageCountsOnce cuts, loses and delays at each stage of a batch, and of the
// retry too: within the timeout every batch is answered, and counted once.
func TestFaultAtEveryStageCountsOnce(t *testing.T) { bothForms(t, testEveryStage) }

func testEveryStage(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	var script []pgtest.Fault // only used while a batch is on its way
	var mu sync.Mutex
	p := pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if !isBatch(sql) || len(script) == 0 {
			return pgtest.Pass
		}
		f := script[0]
		script = script[1:]
		return f
	})
	o := testOptions(t)
	o.Timeout = 4 * time.Second
	s := open(pgtest.URL([]string{p.Addr()}, pgtest.Superuser), o)
	var want int64
	run := func(name string, faults ...pgtest.Fault) {
		t.Run(name, func(t *testing.T) {
			// An answer may slip through before the cut; then once more.
			left := len(faults)
			for try := 0; left > 0; try++ {
				if try == 5 {
					t.Fatalf("not all of %v happened in %d batches", faults, try)
				}
				mu.Lock()
				script = faults
				mu.Unlock()
				want += 3
				mustAdd(t, s, 3, want)
				mu.Lock()
				left = len(script)
				script = nil
				mu.Unlock()
			}
		})
	}
	for f := range pgtest.Stages {
		run(f.String(), f)
	}
	for f := pgtest.CutBefore; f <= pgtest.CutAtOnce; f++ {
		for g := pgtest.CutBefore; g <= pgtest.CutAtOnce; g++ {
			run(f.String()+" then "+g.String(), f, g)
		}
	}
	mustAdd(t, s, 0, want)
	st := s.Stats()
	t.Logf("%+v", st)
	if st.Abandoned != 0 || st.Resolved != st.Ambiguous || st.FoundApplied < 10 {
		t.Errorf("%+v", st)
	}
}

// TestRetryWhileTheFirstAttemptRuns: the first attempt waits for the counter's lock on
// the server when its connection dies and the retry arrives. The retry must
// not count again.
func TestRetryWhileTheFirstAttemptRuns(t *testing.T) { bothForms(t, testAttemptStillRunning) }

func testAttemptStillRunning(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	cut := pgtest.CutAtOnce
	p := pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		if !isBatchOf(sql, 7) {
			return pgtest.Pass
		}
		defer func() { cut = pgtest.Pass }()
		return cut
	})
	s := open(pgtest.URL([]string{p.Addr()}, pgtest.Superuser), testOptions(t))
	mustAdd(t, s, 1, 1)

	release := holdCounter(t, c)
	done := make(chan error, 1)
	go func() {
		total, err := add(bg, s, 7)
		if err == nil && total != 8 {
			err = errors.New("wrong total")
		}
		done <- err
	}()
	// Both attempts wait: the first for the counter's row, the second for the
	// bookkeeping row that the first holds.
	c.Await("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'counterd' HAVING count(*) = 2")
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.FoundApplied != 1 {
		t.Errorf("%+v: want the first attempt to be found applied", st)
	}
	mustAdd(t, s, 1, 9)
}

// holdCounter locks the counter's row until release is called.
func holdCounter(t *testing.T, c *pgtest.Cluster) (release func()) {
	t.Helper()
	s := mustOpen(t, c.URL("application_name=holder"), testOptions(t))
	if _, err := s.session.exec(bg, "BEGIN;UPDATE counterd_counter SET value=value"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := s.session.exec(bg, "COMMIT"); err != nil {
			t.Error(err)
		}
	}
}

// TestAbandonedBatchDisturbsNoOther: a batch is given up while its transaction still waits on the
// server. It may count later or never, but it must not disturb the next one,
// and the server must end it by itself.
func TestAbandonedBatchDisturbsNoOther(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := testOptions(t)
	o.Timeout = time.Second
	s := mustOpen(t, c.URL(), o)
	mustAdd(t, s, 1, 1)
	release := holdCounter(t, c)
	start := time.Now()
	if _, err := add(bg, s, 5); !errors.Is(err, counter.ErrTimeout) {
		t.Fatalf("%v, want ErrTimeout", err)
	}
	if took := time.Since(start); took > o.Timeout+time.Second {
		t.Fatalf("Add took %v", took)
	}
	// The server ends what waits, though the lock is still held.
	c.Await("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')")

	ctx, cancel := context.WithCancel(bg)
	gone := make(chan error, 1)
	go func() { _, err := add(ctx, s, 5); gone <- err }()
	c.Await("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
	cancel()
	if err := <-gone; !errors.Is(err, counter.ErrTimeout) {
		t.Fatalf("%v, want ErrTimeout", err)
	}
	release()
	total, err := add(bg, s, 0)
	if err != nil || total != 1 && total != 6 {
		t.Fatalf("after two abandoned batches: %d, %v; only the second can be counted", total, err)
	}
	mustAdd(t, s, 1, total+1)
}

// TestDatabaseAwayAndBack: while the database is away, Add fails in time and dials
// rarely; when it is back, counting resumes by itself.
func TestDatabaseAwayAndBack(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	var dials atomic.Int64
	p := pgtest.NewProxy(t, func() string { dials.Add(1); return c.Addr() }, func(string) pgtest.Fault { return pgtest.Pass })
	o := testOptions(t)
	o.Timeout = time.Second
	s := mustOpen(t, pgtest.URL([]string{p.Addr()}, pgtest.Superuser), o)
	l := newLedger(t)
	if err := l.add(bg, s, 1); err != nil {
		t.Fatal(err)
	}
	c.Kill()
	before := dials.Load()
	start := time.Now()
	for range 5 {
		began := time.Now()
		if err := l.add(bg, s, 1); !errors.Is(err, counter.ErrTimeout) {
			t.Fatalf("while away: %v, want ErrTimeout", err)
		}
		if took := time.Since(began); took > 2*o.Timeout {
			t.Fatalf("Add took %v", took)
		}
	}
	// 10 ms doubling to 1 s, and one at the beginning of each Add.
	if n, max := dials.Load()-before, int64(12+2*time.Since(start)/time.Second); n > max {
		t.Errorf("%d dials in %v, want at most %d", n, time.Since(start), max)
	}
	c.Start()
	back := time.Now()
	for l.add(bg, s, 1) != nil {
		if time.Since(back) > 20*time.Second {
			t.Fatal("counting doesn't resume")
		}
	}
	t.Logf("resumed after %v", time.Since(back))
	l.checkStore(s)
}

// TestTerminatedBackendsLoseNothing: pg_terminate_backend in a loop.
func TestTerminatedBackendsLoseNothing(t *testing.T) { bothForms(t, testBackendsTerminated) }

func testBackendsTerminated(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	l := newLedger(t)
	stores := []*Store{open(c.URL(), testOptions(t)), open(c.URL(), testOptions(t))}
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := l.add(bg, s, 1+rand.Int64N(20)); err != nil {
					t.Errorf("a batch failed: %v", err)
					return
				}
			}
		})
	}
	ambiguous := func() (n, found uint64) {
		for _, s := range stores {
			n += s.Stats().Ambiguous
			found += s.Stats().FoundApplied
		}
		return n, found
	}
	waitFor(t, "ambiguous batches", func() bool {
		c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counterd' AND state = 'active'")
		n, _ := ambiguous()
		return n >= 20
	})
	cancel()
	wg.Wait()
	for _, s := range stores {
		l.checkStore(s)
	}
	if total, _ := add(bg, stores[0], 0); total != l.sent.Load() {
		t.Errorf("every batch was answered, %d hits, but the count is %d", l.sent.Load(), total)
	}
	n, found := ambiguous()
	t.Logf("%d batches ambiguous and resolved, %d of them found applied", n, found)
}

// TestKilledDatabaseLosesNothing: kill -9 of the whole server, of one backend, and an immediate
// shutdown, under load.
func TestKilledDatabaseLosesNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	l := newLedger(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := l.add(bg, s, 3); err != nil {
				t.Errorf("a batch failed: %v", err)
			}
		}
	})
	answered := func(n int64) {
		for start, began := l.answered.Load(), time.Now(); l.answered.Load() < start+n && time.Since(began) < 20*time.Second; {
			time.Sleep(time.Millisecond)
		}
	}
	for range 3 {
		answered(100)
		c.Kill()
		c.Start()
		answered(100)
		c.KillBackend("application_name = 'counterd'")
		answered(100)
		c.Stop()
		c.Start()
	}
	answered(100)
	cancel()
	wg.Wait()
	l.checkStore(s)
	if total, _ := add(bg, s, 0); total != l.sent.Load() {
		t.Errorf("every batch was answered, %d hits, but the count is %d", l.sent.Load(), total)
	}
	t.Logf("%+v", s.Stats())
}

// TestDatabaseThatStandsStill: the server stops without closing anything (SIGSTOP). Add
// ends in time, and what it had sent before counts at most once.
func TestDatabaseThatStandsStill(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := testOptions(t)
	o.Timeout = 500 * time.Millisecond
	s := mustOpen(t, c.URL(), o)
	l := newLedger(t)
	if err := l.add(bg, s, 1); err != nil {
		t.Fatal(err)
	}
	c.Pause()
	for range 3 {
		start := time.Now()
		if err := l.add(bg, s, 10); !errors.Is(err, counter.ErrTimeout) {
			t.Errorf("%v, want ErrTimeout", err)
		}
		if took := time.Since(start); took > o.Timeout+time.Second {
			t.Errorf("Add took %v", took)
		}
	}
	c.Resume()
	for began := time.Now(); l.add(bg, s, 1) != nil; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("counting doesn't resume")
		}
	}
	l.checkStore(s)
}
