package counter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/counterd/counterd/internal/race"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// gate is a Store whose answers the test gives by hand. By default an answer
// adds; the count lives in total.
type gate struct {
	calls  chan call
	total  int64
	closed bool
}

type call struct {
	ctx    context.Context
	n      int64
	answer chan<- error
}

func newGate() *gate { return &gate{calls: make(chan call)} }

func (g *gate) Add(ctx context.Context, deltas []Delta) (int64, error) {
	n := asked(deltas)
	answer := make(chan error)
	g.calls <- call{ctx, n, answer}
	if err := <-answer; err != nil {
		return 0, err
	}
	if n > math.MaxInt64-g.total {
		return 0, ErrFull
	}
	g.total += n
	return told(deltas, g.total), nil
}

// asked is what a store with one counter is asked to add.
func asked(deltas []Delta) int64 {
	switch len(deltas) {
	case 0:
		return 0
	case 1:
		return deltas[0].Hits
	}
	panic("more than one delta for one counter")
}

// told is what it answers.
func told(deltas []Delta, total int64) int64 {
	for i := range deltas {
		deltas[i].Total = total
	}
	return total
}

// ask makes b a batch of hits on the only counter, or of a read.
func ask(b *Batch, hits int64) *Batch {
	b.Reset()
	if hits == 0 {
		b.ReadSum()
		return b
	}
	b.Hit(nil)
	b.runs[0].hits, b.hits = int32(hits), hits
	return b
}

// outcome is what became of a batch that ask made: the number of its first hit,
// or one more than a read showed; how many hits were granted; and why not all.
func outcomeOf(b *Batch) (first, granted int64, err error) {
	if b.err != nil {
		return 0, 0, b.err
	}
	r := &b.runs[0]
	if r.what != hitting {
		return r.first + 1, 0, nil
	}
	if r.granted < r.hits {
		_, err = b.Number(Place{0, r.granted})
	}
	return r.first, int64(r.granted), err
}

// hit counts a hit on the only counter and returns its number.
func hit(c *Counter) (int64, error) { return ask1(c, nil) }

func ask1(c *Counter, name []byte) (int64, error) {
	done := make(chan struct{})
	b := &Batch{Done: func(*Batch) { close(done) }}
	p := b.Hit(name)
	if !c.Commit(b) {
		<-done
	}
	return b.Number(p)
}

func (g *gate) Close() error { g.closed = true; return nil }

// expect takes the next call, which must be for n hits.
func (g *gate) expect(t *testing.T, n int64) call {
	t.Helper()
	c := <-g.calls
	if c.n != n {
		t.Fatalf("the store was asked to add %d, want %d", c.n, n)
	}
	return c
}

// book writes down what was settled, in order.
type book struct {
	mu   sync.Mutex
	seen []*Batch
	at   []time.Time
}

func (k *book) batch(hits int64) *Batch {
	return ask(&Batch{Done: func(b *Batch) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.seen = append(k.seen, b)
		k.at = append(k.at, time.Now())
	}}, hits)
}

func (k *book) submit(t *testing.T, c *Counter, hits int64) *Batch {
	t.Helper()
	b := k.batch(hits)
	if c.Submit(b) {
		t.Fatalf("Submit(%d hits) was settled on the spot: %v", hits, b.err)
	}
	return b
}

func (k *book) settled() []*Batch {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.seen)
}

func (k *book) expect(t *testing.T, want ...*Batch) {
	t.Helper()
	if got := k.settled(); !slices.Equal(got, want) {
		t.Fatalf("settled %v, want %v", show(got), show(want))
	}
}

func show(list []*Batch) (s []string) {
	for _, b := range list {
		first, granted, err := outcomeOf(b)
		s = append(s, fmt.Sprintf("{%d hits: %d from %d, %v}", b.hits, granted, first, err))
	}
	return s
}

func check(t *testing.T, b *Batch, first, granted int64, err error) {
	t.Helper()
	gotFirst, gotGranted, gotErr := outcomeOf(b)
	if gotFirst != first || gotGranted != granted || !errors.Is(gotErr, err) || (gotErr != nil) != (err != nil) {
		t.Errorf("batch of %d hits: first %d granted %d err %v; want %d, %d, %v",
			b.hits, gotFirst, gotGranted, gotErr, first, granted, err)
	}
}

func bubble(t *testing.T, opts Options, f func(t *testing.T, c *Counter, g *gate, k *book)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		c := New(g, opts)
		f(t, c, g, new(book))
		if err := c.Close(bg); err != nil {
			t.Errorf("Close: %v", err)
		}
		if !g.closed {
			t.Error("the store was not closed")
		}
	})
}

func TestBatchesGatherWhileACommitIsOnItsWay(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
		a := k.submit(t, c, 1)
		first := g.expect(t, 1) // starts at once, with what there is
		b := k.submit(t, c, 3)
		r := k.submit(t, c, 0)
		d := k.submit(t, c, 2)
		synctest.Wait()
		k.expect(t)
		first.answer <- nil
		second := g.expect(t, 5) // all that gathered, as one
		synctest.Wait()
		k.expect(t, a)
		second.answer <- nil
		synctest.Wait()
		k.expect(t, a, b, r, d)
		check(t, a, 1, 1, nil)
		check(t, b, 2, 3, nil)
		check(t, r, 5, 0, nil) // a read after 4 shows First-1
		check(t, d, 5, 2, nil)
		if c.Total() != 6 {
			t.Errorf("Total() = %d, want 6", c.Total())
		}
	})
}

func TestBatchCanBeSubmittedAgainFromDone(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
		var numbers []int64
		b := ask(new(Batch), 1)
		b.Done = func(b *Batch) {
			first, _, _ := outcomeOf(b)
			numbers = append(numbers, first)
			if len(numbers) < 3 {
				c.Submit(b)
			}
		}
		c.Submit(b)
		for range 3 {
			g.expect(t, 1).answer <- nil
		}
		synctest.Wait()
		if !slices.Equal(numbers, []int64{1, 2, 3}) {
			t.Errorf("numbers %v, want 1 2 3", numbers)
		}
	})
}

func TestFailedBatchCanBeSubmittedAgainFromDone(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
		b := ask(new(Batch), 1)
		b.Done = func(b *Batch) {
			if b.err != nil {
				c.Submit(b)
			}
		}
		k.submit(t, c, 0)
		first := g.expect(t, 0)
		c.Submit(b)
		after := k.submit(t, c, 2)
		first.answer <- nil
		g.expect(t, 3).answer <- errors.New("boom")
		g.expect(t, 1).answer <- nil
		synctest.Wait()
		check(t, b, 1, 1, nil)
		if got := k.settled(); len(got) != 2 || got[1] != after {
			t.Errorf("settled %v", show(got))
		}
	})
}

func TestWaitingBatchTimesOutAndIsNotCounted(t *testing.T) {
	bubble(t, Options{Timeout: time.Second}, func(t *testing.T, c *Counter, g *gate, k *book) {
		start := time.Now()
		a := k.submit(t, c, 1)
		first := g.expect(t, 1)
		time.Sleep(100 * time.Millisecond)
		b := k.submit(t, c, 10)
		time.Sleep(500 * time.Millisecond)
		d := k.submit(t, c, 100)

		time.Sleep(400 * time.Millisecond) // 1.0 s
		synctest.Wait()
		k.expect(t, a)
		check(t, a, 0, 0, ErrTimeout)
		if first.ctx.Err() == nil {
			t.Error("nobody waits for the commit any more, but its context lives")
		}
		time.Sleep(100 * time.Millisecond) // 1.1 s
		synctest.Wait()
		k.expect(t, a, b)
		check(t, b, 0, 0, ErrTimeout)
		for i, want := range []time.Duration{time.Second, 1100 * time.Millisecond} {
			if got := k.at[i].Sub(start); got != want {
				t.Errorf("batch %d was settled after %v, want %v", i, got, want)
			}
		}

		first.answer <- nil        // late: a was counted after all, and isn't settled again
		second := g.expect(t, 100) // b is not in it
		if second.ctx.Err() != nil {
			t.Error("the next commit began with a context that had ended")
		}
		second.answer <- nil
		synctest.Wait()
		k.expect(t, a, b, d)
		check(t, d, 2, 100, nil)
	})
}

func TestPartOfACommitTimesOut(t *testing.T) {
	bubble(t, Options{Timeout: time.Second}, func(t *testing.T, c *Counter, g *gate, k *book) {
		k.submit(t, c, 1)
		first := g.expect(t, 1)
		a := k.submit(t, c, 10)
		time.Sleep(600 * time.Millisecond)
		b := k.submit(t, c, 5)
		first.answer <- nil
		second := g.expect(t, 15)
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		check(t, a, 0, 0, ErrTimeout)
		if second.ctx.Err() != nil {
			t.Error("the context ended before the youngest batch of the commit")
		}
		second.answer <- nil
		synctest.Wait()
		check(t, b, 12, 5, nil) // a's ten numbers, 2 to 11, are nobody's
		if n := len(k.settled()); n != 3 {
			t.Errorf("%d batches were settled, want 3", n)
		}
	})
}

func TestPartOfACommitTimesOutOnAFullCounter(t *testing.T) {
	bubble(t, Options{Timeout: time.Second}, func(t *testing.T, c *Counter, g *gate, k *book) {
		g.total = math.MaxInt64 - 4
		k.submit(t, c, 1)
		first := g.expect(t, 1)
		a := k.submit(t, c, 10)
		time.Sleep(600 * time.Millisecond)
		b := k.submit(t, c, 5)
		first.answer <- nil
		second := g.expect(t, 15)
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		check(t, a, 0, 0, ErrTimeout)
		second.answer <- nil
		g.expect(t, 0).answer <- nil
		g.expect(t, 3).answer <- nil // a's, though nobody waits for them
		synctest.Wait()
		if first, granted, err := outcomeOf(b); granted != 0 || first-1 != math.MaxInt64 || err != ErrFull {
			t.Errorf("a batch after the last number: %+v", b)
		}
	})
}

// TestDoneIsCalledOneAtATime: the timer settles a batch only after the committer has
// settled those before it. Not in a bubble, which doesn't wait for mutexes.
func TestDoneIsCalledOneAtATime(t *testing.T) {
	g := newGate()
	c := New(g, Options{Timeout: 50 * time.Millisecond})
	var done atomic.Bool
	settled := make(chan bool, 1)
	c.Submit(ask(&Batch{Done: func(*Batch) {
		time.Sleep(200 * time.Millisecond) // the next one is late by then
		done.Store(true)
	}}, 0))
	first := g.expect(t, 0)
	c.Submit(ask(&Batch{Done: func(*Batch) { settled <- done.Load() }}, 0))
	first.answer <- nil
	// The committer may come to the second batch before the timer does.
	go func() {
		for again := range g.calls {
			again.answer <- nil
		}
	}()
	defer close(g.calls)
	if !<-settled {
		t.Error("a batch was settled while the Done of the one before it ran")
	}
	if err := c.Close(bg); err != nil {
		t.Error(err)
	}
}

func TestTimedOutBatchIsTheCallersAgain(t *testing.T) {
	bubble(t, Options{Timeout: time.Second}, func(t *testing.T, c *Counter, g *gate, k *book) {
		b := k.submit(t, c, 7)
		first := g.expect(t, 7)
		time.Sleep(time.Second)
		synctest.Wait()
		check(t, b, 0, 0, ErrTimeout)
		c.Submit(ask(b, 3)) // the same memory, while its earlier hits are still on their way
		first.answer <- nil
		g.expect(t, 3).answer <- nil
		synctest.Wait()
		k.expect(t, b, b)
		check(t, b, 8, 3, nil)
	})
}

func TestOtherErrorsFailTheirCommitOnly(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
		boom := errors.New("boom")
		a := k.submit(t, c, 1)
		first := g.expect(t, 1)
		b := k.submit(t, c, 1)
		first.answer <- boom
		g.expect(t, 1).answer <- nil
		synctest.Wait()
		check(t, a, 0, 0, boom)
		check(t, b, 1, 1, nil)
		select {
		case <-c.Lost():
			t.Error("lost by an ordinary error")
		default:
		}
	})
}

func TestLostStoreEndsEverything(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
		a := k.submit(t, c, 1)
		first := g.expect(t, 1)
		b := k.submit(t, c, 1)
		r := k.submit(t, c, 0)
		first.answer <- &LostError{errors.New("fdatasync: input/output error")}
		<-c.Lost()
		k.expect(t, a, b, r)
		for _, x := range []*Batch{a, b, r} {
			check(t, x, 0, 0, ErrLost)
		}
		late := k.batch(1)
		if !c.Submit(late) {
			t.Error("a lost counter took a batch")
		}
		check(t, late, 0, 0, ErrLost)
		if !errors.Is(c.Err(), ErrLost) {
			t.Errorf("Err() = %v", c.Err())
		}
	})
}

func TestFullCounterGrantsWhatIsLeft(t *testing.T) {
	tests := []struct {
		left    int64 // below 2^63-1 before the commit
		hits    []int64
		granted []int64
	}{
		{left: 3, hits: []int64{1, 2}, granted: []int64{1, 2}},
		{left: 3, hits: []int64{2, 2, 1}, granted: []int64{2, 1, 0}},
		{left: 0, hits: []int64{1, 1}, granted: []int64{0, 0}},
		{left: 1, hits: []int64{0, 1, 0, 1, 0}, granted: []int64{0, 1, 0, 0, 0}},
		{left: 5, hits: []int64{4, 0, 4, 0}, granted: []int64{4, 0, 1, 0}},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.left, test.hits), func(t *testing.T) {
			bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
				g.total = math.MaxInt64 - test.left
				k.submit(t, c, 0)
				first := g.expect(t, 0)
				var batches []*Batch
				for _, n := range test.hits {
					batches = append(batches, k.submit(t, c, n))
				}
				go func() {
					first.answer <- nil
					for c := range g.calls {
						c.answer <- nil
					}
				}()
				defer close(g.calls)
				synctest.Wait()
				next := math.MaxInt64 - test.left + 1
				for i, b := range batches {
					var err error
					if test.granted[i] < test.hits[i] {
						err = ErrFull
					}
					check(t, b, next, test.granted[i], err)
					_, granted, _ := outcomeOf(b)
					next += granted
				}
			})
		})
	}
}

func TestFullInstantStore(t *testing.T) {
	m := NewMem()
	c := NewInstant(m, Options{})
	defer c.Close(bg)
	m.AddNow(nil, math.MaxInt64-2)
	b := ask(new(Batch), 5)
	c.Submit(b)
	check(t, b, math.MaxInt64-1, 2, ErrFull)
	c.Submit(b)
	if first, granted, err := outcomeOf(b); granted != 0 || first-1 != math.MaxInt64 || err != ErrFull {
		t.Errorf("a hit on the full counter: %+v", b)
	}
	if n, err := c.ReadSum(bg); n != math.MaxInt64 || err != nil {
		t.Errorf("Read() = %d, %v", n, err)
	}
	if _, err := hit(c); err != ErrFull {
		t.Errorf("Add(1): %v, want ErrFull", err)
	}
}

func TestOverloadIsRefused(t *testing.T) {
	bubble(t, Options{MaxWaiting: 13}, func(t *testing.T, c *Counter, g *gate, k *book) {
		k.submit(t, c, 3) // weighs 5: three hits, in one run, of one batch
		first := g.expect(t, 3)
		k.submit(t, c, 4) // 11
		over := k.batch(1)
		if !c.Submit(over) {
			t.Fatal("took more than MaxWaiting")
		}
		check(t, over, 0, 0, ErrOverloaded)
		k.submit(t, c, 0) // 13
		if over = k.batch(0); !c.Submit(over) {
			t.Fatal("took one read too many")
		}
		if over = k.batch(math.MaxInt64 - 2); !c.Submit(over) {
			t.Fatal("took more hits than a sum can hold")
		}
		first.answer <- nil
		second := g.expect(t, 4)
		synctest.Wait()
		k.submit(t, c, 3) // the first five are free again
		second.answer <- nil
		g.expect(t, 3).answer <- nil
		synctest.Wait()
		k.submit(t, c, 11)
		g.expect(t, 11).answer <- nil
	})
}

func TestTimedOutBatchesFreeTheirWeight(t *testing.T) {
	bubble(t, Options{MaxWaiting: 12, Timeout: time.Second}, func(t *testing.T, c *Counter, g *gate, k *book) {
		k.submit(t, c, 3)
		first := g.expect(t, 3)
		k.submit(t, c, 5)
		time.Sleep(time.Second)
		synctest.Wait()
		b := k.submit(t, c, 9)
		first.answer <- nil
		g.expect(t, 9).answer <- nil
		synctest.Wait()
		check(t, b, 4, 9, nil)
	})
}

func TestCloseSettlesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, k := newGate(), new(book)
		c := New(g, Options{})
		a := k.submit(t, c, 1)
		first := g.expect(t, 1)
		b := k.submit(t, c, 1)
		closed := make(chan error, 2)
		go func() { closed <- c.Close(bg) }()
		synctest.Wait()
		late := k.batch(1)
		if !c.Submit(late) {
			t.Error("a closed counter took a batch")
		}
		check(t, late, 0, 0, ErrClosed)
		first.answer <- nil
		g.expect(t, 1).answer <- nil
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		check(t, a, 1, 1, nil)
		check(t, b, 2, 1, nil)
		if err := c.Close(bg); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestCloseWithAStuckStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, k := newGate(), new(book)
		c := New(g, Options{Timeout: time.Minute})
		a := k.submit(t, c, 1)
		stuck := g.expect(t, 1)
		b := k.submit(t, c, 1)
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v, want the deadline", err)
		}
		k.expect(t, a, b)
		check(t, a, 0, 0, ErrTimeout)
		check(t, b, 0, 0, ErrTimeout)
		if stuck.ctx.Err() == nil {
			t.Error("the stuck commit was not cancelled")
		}
		if g.closed {
			t.Error("the store was closed under a commit")
		}
		stuck.answer <- nil
		if err := c.Close(bg); err != nil || !g.closed {
			t.Errorf("Close after the store came back: %v, closed %v", err, g.closed)
		}
	})
}

func TestReadGivesUpWithItsContext(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, c *Counter, g *gate, k *book) {
		ctx, cancel := context.WithCancel(bg)
		result := make(chan error)
		go func() { _, err := c.ReadSum(ctx); result <- err }()
		first := g.expect(t, 0)
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("ReadSum: %v", err)
		}
		go func() {
			n, err := c.ReadSum(bg)
			if n != 0 {
				err = fmt.Errorf("read %d (%v), want 0", n, err)
			}
			result <- err
		}()
		synctest.Wait()
		first.answer <- nil
		g.expect(t, 0).answer <- nil
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestObserveIsToldOfEachCommit(t *testing.T) {
	type seen struct {
		hits    int64
		batches int
		took    time.Duration
		err     error
	}
	var got []seen
	opts := Options{Observe: func(hits int64, batches int, took time.Duration, err error) {
		got = append(got, seen{hits, batches, took, err})
	}}
	boom := errors.New("boom")
	bubble(t, opts, func(t *testing.T, c *Counter, g *gate, k *book) {
		k.submit(t, c, 1)
		first := g.expect(t, 1)
		k.submit(t, c, 4)
		k.submit(t, c, 0)
		time.Sleep(time.Millisecond)
		first.answer <- nil
		g.expect(t, 4).answer <- boom
		synctest.Wait()
	})
	want := []seen{{1, 1, time.Millisecond, nil}, {4, 2, 0, boom}}
	if !slices.Equal(got, want) {
		t.Errorf("observed %v, want %v", got, want)
	}
}

// dying is an instant store that is lost in the background.
type dying struct {
	Mem
	failed chan struct{}
}

func (d *dying) Lost() <-chan struct{} { return d.failed }

func (d *dying) AddNow([]byte, int64) (int64, int64, error) {
	return 0, 0, &LostError{errors.New("background sync")}
}

func TestInstantStoreLostInTheBackground(t *testing.T) {
	d := &dying{failed: make(chan struct{})}
	c := NewInstant(d, Options{})
	close(d.failed)
	<-c.Lost()
	if !errors.Is(c.Err(), ErrLost) {
		t.Errorf("Err() = %v", c.Err())
	}
	if err := c.Close(bg); err != nil {
		t.Error(err)
	}
}

func TestInstantStoreLostWhenAsked(t *testing.T) {
	c := NewInstant(&dying{failed: make(chan struct{})}, Options{})
	b := ask(new(Batch), 1)
	if !c.Submit(b) {
		t.Fatal("not settled on the spot")
	}
	check(t, b, 0, 0, ErrLost)
	<-c.Lost()
	if err := c.Close(bg); err != nil {
		t.Error(err)
	}
}

// Many submitters, a store that takes its time: nothing is lost, no number is
// given twice, and each submitter's numbers rise.
func TestConcurrentSubmitters(t *testing.T) {
	for _, name := range []string{"mem", "slow"} {
		t.Run(name, func(t *testing.T) {
			const submitters, rounds = 8, 500
			c := over(name, Options{})
			numbers := make(chan int64, submitters*rounds)
			var wg sync.WaitGroup
			for range submitters {
				wg.Go(func() {
					last := int64(0)
					for range rounds {
						n, err := hit(c)
						if err != nil || n <= last {
							t.Errorf("number %d after %d: %v", n, last, err)
							return
						}
						if count, err := c.ReadSum(bg); err != nil || count < n {
							t.Errorf("read %d after %d: %v", count, n, err)
						}
						last = n
						numbers <- n
					}
				})
			}
			wg.Wait()
			close(numbers)
			seen := make([]bool, submitters*rounds+1)
			for n := range numbers {
				if n > submitters*rounds || seen[n] {
					t.Fatalf("number %d twice, or too high", n)
				}
				seen[n] = true
			}
			if err := c.Close(bg); err != nil {
				t.Error(err)
			}
			if _, err := hit(c); err != ErrClosed {
				t.Errorf("Add after Close: %v", err)
			}
		})
	}
}

// over makes a counter over a store of some kind.
func over(kind string, o Options) *Counter {
	if kind == "mem" {
		return NewInstant(NewMem(), o)
	}
	return New(&slow{}, o)
}

// On one core, batches that one goroutine submits in a row go into one commit:
// waking the committer doesn't hand it the core for each of them.
func TestBatchesGatherOnOneCore(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const turns, each = 100, 50
	commits := 0
	c := New(&slow{}, Options{Observe: func(int64, int, time.Duration, error) { commits++ }})
	done := make(chan struct{}, each)
	batches := make([]Batch, each)
	for range turns {
		for i := range batches {
			batches[i].Done = func(*Batch) { done <- struct{}{} }
			c.Submit(ask(&batches[i], 1))
		}
		for range batches {
			<-done
		}
	}
	if err := c.Close(bg); err != nil {
		t.Error(err)
	}
	if commits > 2*turns {
		t.Errorf("%d commits for %d turns of %d batches", commits, turns, each)
	}
}

// slow isn't instant, and checks that one goroutine at a time calls it.
type slow struct {
	mu    sync.Mutex
	total int64
}

func (s *slow) Add(_ context.Context, deltas []Delta) (int64, error) {
	if !s.mu.TryLock() {
		return 0, errors.New("two calls at once")
	}
	defer s.mu.Unlock()
	s.total += asked(deltas)
	return told(deltas, s.total), nil
}

func (s *slow) Close() error { return nil }

func TestNoAllocations(t *testing.T) {
	race.Spare(t)
	for _, kind := range []string{"mem", "slow"} {
		c := over(kind, Options{Observe: func(int64, int, time.Duration, error) {}})
		done := make(chan struct{}, 1)
		b := &Batch{Done: func(*Batch) { done <- struct{}{} }}
		for _, submit := range []func(*Batch) bool{c.Submit, c.Commit} {
			allocs := testing.AllocsPerRun(1000, func() {
				b.Reset()
				b.Hit(nil)
				b.Hit(nil)
				b.ReadSum()
				if !submit(b) {
					<-done
				}
			})
			if allocs != 0 {
				t.Errorf("%s: %v allocations per batch", kind, allocs)
			}
		}
		if err := c.Close(bg); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	b.Run("mem", func(b *testing.B) {
		c := over("mem", Options{})
		defer c.Close(bg)
		x := ask(new(Batch), 1)
		b.ReportAllocs()
		for b.Loop() {
			c.Submit(x)
		}
	})
	// One batch, one commit: the price of the hop to the committer and back.
	b.Run("group/1", func(b *testing.B) { benchmarkGroup(b, 1) })
	// Many batches on their way at once: the price per batch.
	b.Run("group/100", func(b *testing.B) { benchmarkGroup(b, 100) })
}

func benchmarkGroup(b *testing.B, outstanding int) {
	c := New(&slow{}, Options{})
	defer c.Close(bg)
	free := make(chan *Batch, outstanding)
	for range outstanding {
		free <- ask(&Batch{Done: func(x *Batch) { free <- x }}, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Submit(<-free)
	}
	for range outstanding {
		<-free
	}
}
