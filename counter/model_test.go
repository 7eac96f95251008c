package counter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// The property test: any sequence of batches against a store that is slow,
// fails, counts what it says it didn't, gets lost or full.

type outcome uint8

const (
	works      outcome = iota
	fails              // an error, nothing added
	failsAdded         // an error, and yet added
	lost
)

type answer struct {
	after   time.Duration
	outcome outcome
}

type submission struct {
	after time.Duration // the one before
	hits  int64
	leads bool // by a goroutine of its own, which commits where nobody does
}

type plan struct {
	initial int64
	close   time.Duration
	store   []answer // in turn, then all work at once
	batches []submission
}

// scripted is the store of a plan.
type scripted struct {
	total   atomic.Int64 // read by batches that give up meanwhile
	answers []answer
	closed  bool
}

var errScripted = errors.New("scripted failure")

func (s *scripted) Add(ctx context.Context, deltas []Delta) (int64, error) {
	n := asked(deltas)
	if s.closed {
		panic("Add after Close")
	}
	var a answer
	if len(s.answers) > 0 {
		a, s.answers = s.answers[0], s.answers[1:]
	}
	time.Sleep(a.after)
	if a.outcome == lost {
		return 0, &LostError{errScripted}
	}
	if a.outcome == fails {
		return 0, errScripted
	}
	if n > math.MaxInt64-s.total.Load() {
		return 0, ErrFull
	}
	total := s.total.Add(n)
	if a.outcome == failsAdded {
		return 0, errScripted
	}
	return told(deltas, total), nil
}

func (s *scripted) Close() error { s.closed = true; return nil }

func drawPlan(t *rapid.T) plan {
	ms := func(limit int) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.IntRange(0, limit), func(n int) time.Duration { return time.Duration(n) * time.Millisecond })
	}
	return plan{
		initial: rapid.SampledFrom([]int64{0, 0, 0, 1<<63 - 1 - 20, 1<<63 - 1 - 3}).Draw(t, "initial"),
		close:   ms(1500).Draw(t, "close"),
		store: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) answer {
			kinds := []outcome{works, works, works, works, fails, failsAdded}
			if rapid.IntRange(0, 20).Draw(t, "rare") == 0 {
				kinds = []outcome{lost}
			}
			return answer{ms(150).Draw(t, "after"), rapid.SampledFrom(kinds).Draw(t, "outcome")}
		}), 0, 12).Draw(t, "store"),
		batches: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) submission {
			return submission{ms(60).Draw(t, "after"), int64(rapid.IntRange(0, 5).Draw(t, "hits")), rapid.Bool().Draw(t, "leads")}
		}), 1, 30).Draw(t, "batches"),
	}
}

// record is what became of one batch.
type record struct {
	Batch
	first, granted     int64
	why                error // not all were
	submitted, settled time.Duration
	times              int
	totalBefore        int64 // highest number known to anybody when it was submitted
	totalAfter         int64 // what the store held when it was settled
}

func (p plan) run() error {
	const timeout, maxWaiting = 100 * time.Millisecond, 40
	store := &scripted{answers: p.store}
	store.total.Store(p.initial)
	c := New(store, Options{Timeout: timeout, MaxWaiting: maxWaiting})
	start := time.Now()
	known := p.initial
	var order []*record
	// Two goroutines of the counter settle, and those that submit.
	var mu sync.Mutex
	var leaders sync.WaitGroup
	defer leaders.Wait()

	records := make([]*record, len(p.batches))
	for i, s := range p.batches {
		time.Sleep(s.after)
		synctest.Wait()
		mu.Lock()
		r := &record{submitted: time.Since(start), totalBefore: known}
		mu.Unlock()
		records[i] = r
		settle := func() {
			mu.Lock()
			defer mu.Unlock()
			r.times++
			r.settled = time.Since(start)
			r.totalAfter = store.total.Load()
			r.first, r.granted, r.why = outcomeOf(&r.Batch)
			known = max(known, r.first-1+r.granted)
		}
		ask(&r.Batch, s.hits)
		r.Done = func(*Batch) { order = append(order, r); settle() }
		if s.leads {
			leaders.Go(func() {
				if c.Commit(&r.Batch) {
					settle()
				}
			})
			continue
		}
		if c.Submit(&r.Batch) {
			settle()
			if r.why == nil || r.granted != 0 {
				return fmt.Errorf("batch %d was settled on the spot: %+v", i, r.Batch)
			}
		}
	}
	if err := closeWithin(c, p.close); err != nil {
		return err
	}

	leaders.Wait()
	var sent, granted int64
	given := map[int64]bool{}
	for i, r := range records {
		sent += r.hits
		granted += r.granted
		for n := range r.granted {
			if given[r.first+n] {
				return fmt.Errorf("number %d was given twice", r.first+n)
			}
			given[r.first+n] = true
		}
		if err := r.check(timeout); err != nil {
			return fmt.Errorf("batch %d: %w", i, err)
		}
	}
	if counted := store.total.Load() - p.initial; granted > counted || counted > sent {
		return fmt.Errorf("%d granted, %d counted, %d sent", granted, counted, sent)
	}
	next, last := p.initial+1, -1*time.Second
	for _, r := range order {
		if r.submitted < last {
			return errors.New("batches were settled out of order")
		}
		last = r.submitted
		if r.why != nil && r.why != ErrFull {
			continue
		}
		if r.first-next < 0 { // a difference, since on a full counter it wraps
			return fmt.Errorf("number %d was given after %d", r.first, next-1)
		}
		next = r.first + r.granted
	}
	return nil
}

// check is what must hold for every batch by itself.
func (r *record) check(timeout time.Duration) error {
	switch {
	case r.times != 1:
		return fmt.Errorf("settled %d times", r.times)
	case r.settled-r.submitted > timeout:
		return fmt.Errorf("settled after %v", r.settled-r.submitted)
	case r.granted < 0 || r.granted > r.hits:
		return fmt.Errorf("%d of %d granted", r.granted, r.hits)
	case r.granted < r.hits && r.why == nil:
		return errors.New("not granted, and no reason")
	case r.granted == r.hits && r.hits > 0 && r.why != nil:
		return fmt.Errorf("granted, and yet %w", r.why)
	case r.why != nil && r.why != ErrFull && (r.granted != 0 || r.first != 0):
		return fmt.Errorf("%w, and yet numbers", r.why)
	case r.why != nil && r.why != ErrFull:
		return nil
	case r.first-1-r.totalBefore < 0:
		return fmt.Errorf("shows %d after %d was known", r.first-1, r.totalBefore)
	case r.first-1+r.granted > r.totalAfter:
		return fmt.Errorf("shows %d while the store holds %d", r.first-1+r.granted, r.totalAfter)
	}
	return nil
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = p.run() })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// closeWithin closes c, which may take longer than d only where it says so.
func closeWithin(c *Counter, d time.Duration) error {
	ctx, cancel := context.WithTimeout(bg, d)
	defer cancel()
	closeErr := c.Close(ctx)
	if err := c.Close(bg); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if closeErr != nil && !errors.Is(closeErr, context.DeadlineExceeded) {
		return closeErr
	}
	return nil
}
