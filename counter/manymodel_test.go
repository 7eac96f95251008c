package counter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// The property test for many counters: what a batch is told is held against a
// model that adds up its parts for every read of the sum.

var fewNames = [...]string{"/a", "/b", "/c", "/d"}

// wish is a hit, or a read of a counter or of the sum.
type wish struct {
	what uint8
	name int
}

func (w wish) String() string {
	return [...]string{hitting: "hit ", reading: "read ", readingSum: "sum "}[w.what] + fewNames[w.name]
}

// counts is the model: what each counter that exists has.
type counts map[string]int64

func (c counts) sum() (sum int64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

// shelf is a store of many counters that does as a plan says.
type shelf struct {
	most    int // how many counters there may be
	answers []answer
	closed  bool
	started func() // before the first Add of a commit

	mu     sync.Mutex
	counts counts
}

func (s *shelf) Add(ctx context.Context, deltas []Delta) (int64, error) {
	if s.closed {
		panic("Add after Close")
	}
	s.started()
	var a answer
	if len(s.answers) > 0 {
		a, s.answers = s.answers[0], s.answers[1:]
	}
	time.Sleep(a.after)
	switch a.outcome {
	case lost:
		return 0, &LostError{errScripted}
	case fails:
		return 0, errScripted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	after, refused := s.counts.after(deltas, s.most)
	if after.sum() < 0 {
		return 0, ErrFull
	}
	s.counts = after
	if a.outcome == failsAdded {
		return 0, errScripted
	}
	for i := range deltas {
		d := &deltas[i]
		d.Total, d.Refused = after[string(d.Name)], refused[string(d.Name)]
	}
	return after.sum(), nil
}

// after is what the counts are after deltas, where there is room; their sum may
// have wrapped around.
func (c counts) after(deltas []Delta, most int) (after counts, refused map[string]bool) {
	after, refused = maps.Clone(c), map[string]bool{}
	for _, d := range deltas {
		name := string(d.Name)
		if _, ok := after[name]; !ok && d.Hits > 0 && len(after) >= most {
			refused[name] = true
		} else if d.Hits > 0 {
			after[name] += d.Hits
		}
	}
	return after, refused
}

func (s *shelf) snapshot() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

func (s *shelf) Close() error { s.closed = true; return nil }

// manyPlan is a sequence of batches and what becomes of the commits.
type manyPlan struct {
	most    int
	initial counts
	close   time.Duration
	store   []answer // in turn, then all work at once
	batches []manySubmission
}

type manySubmission struct {
	submission
	wishes []wish
}

func drawManyPlan(t *rapid.T) manyPlan {
	one := drawPlan(t)
	p := manyPlan{
		most:    rapid.IntRange(1, len(fewNames)).Draw(t, "most"),
		initial: counts{},
		close:   one.close,
		store:   one.store,
	}
	if one.initial > 0 {
		p.initial[fewNames[0]] = one.initial
	}
	wishes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wish {
		return wish{
			rapid.SampledFrom([]uint8{hitting, hitting, hitting, reading, readingSum}).Draw(t, "what"),
			rapid.IntRange(0, len(fewNames)-1).Draw(t, "name"),
		}
	}), 0, 8)
	for _, s := range one.batches {
		p.batches = append(p.batches, manySubmission{s, wishes.Draw(t, "wishes")})
	}
	return p
}

// manyRecord is what became of a batch.
type manyRecord struct {
	Batch
	manySubmission
	places             []Place
	submitted, settled time.Duration
	times              int
	over               bool // its commit is
}

func newManyRecord(s manySubmission) *manyRecord {
	r := &manyRecord{manySubmission: s}
	for _, w := range s.wishes {
		var p Place
		switch w.what {
		case hitting:
			p = r.Hit([]byte(fewNames[w.name]))
		case reading:
			p = r.Read([]byte(fewNames[w.name]))
		case readingSum:
			p = r.ReadSum()
		}
		r.places = append(r.places, p)
	}
	return r
}

// manyRun is a plan under way.
type manyRun struct {
	store *shelf
	start time.Time

	mu      sync.Mutex
	taken   []*manyRecord // in order of submission
	flight  []*manyRecord // those that were unsettled when the commit at hand began
	before  counts        // and the counts then; nil: no commit is under way
	commits []commitRecord
	err     error // the first fault
}

// commitRecord is a commit that worked.
type commitRecord struct {
	batches       []*manyRecord
	before, after counts
	full          bool
}

// began notes what a commit may contain.
func (x *manyRun) began() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.before != nil {
		return
	}
	x.before, x.flight = x.store.snapshot(), nil
	for _, r := range x.taken {
		if r.times == 0 && !r.over { // who leads is told a little later
			x.flight = append(x.flight, r)
		}
	}
}

// ended is Options.Observe.
func (x *manyRun) ended(_ int64, batches int, _ time.Duration, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if batches > len(x.flight) {
		x.err = fmt.Errorf("a commit of %d batches, and %d waited", batches, len(x.flight))
		return
	}
	for _, r := range x.flight[:batches] {
		r.over = true
	}
	if err == nil || err == ErrFull {
		x.commits = append(x.commits, commitRecord{x.flight[:batches], x.before, x.store.snapshot(), err != nil})
	}
	x.before = nil
}

func (x *manyRun) settle(r *manyRecord) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r.times++
	r.settled = time.Since(x.start)
}

func (p manyPlan) run() error {
	const timeout = 100 * time.Millisecond
	x := &manyRun{start: time.Now()}
	x.store = &shelf{most: p.most, answers: p.store, counts: maps.Clone(p.initial), started: x.began}
	c := New(x.store, Options{Timeout: timeout, MaxWaiting: 100, Observe: x.ended})
	var leaders sync.WaitGroup
	for _, s := range p.batches {
		time.Sleep(s.after)
		synctest.Wait()
		r := newManyRecord(s)
		r.submitted = time.Since(x.start)
		r.Done = func(*Batch) { x.settle(r) }
		x.mu.Lock()
		x.taken = append(x.taken, r)
		x.mu.Unlock()
		if !s.leads {
			if c.Submit(&r.Batch) {
				x.settle(r)
			}
			continue
		}
		leaders.Go(func() {
			if c.Commit(&r.Batch) {
				x.settle(r)
			}
		})
	}
	if err := closeWithin(c, p.close); err != nil {
		return err
	}
	leaders.Wait()
	if x.err != nil {
		return x.err
	}
	for i, r := range x.taken {
		switch {
		case r.times != 1:
			return fmt.Errorf("batch %d was settled %d times", i, r.times)
		case r.settled-r.submitted > timeout:
			return fmt.Errorf("batch %d was settled after %v", i, r.settled-r.submitted)
		}
	}
	return x.check()
}

// check holds what the batches were told against the commits.
func (x *manyRun) check() error {
	given := map[string]map[int64]bool{}
	told := map[*manyRecord]bool{}
	for i, k := range x.commits {
		if err := k.check(x.store.most); err != nil {
			return fmt.Errorf("commit %d, from %v to %v: %w", i, k.before, k.after, err)
		}
		for _, r := range k.batches {
			if told[r] {
				return errors.New("a batch was in two commits")
			}
			told[r] = true
			for j, w := range r.wishes {
				n, err := r.Number(r.places[j])
				if w.what != hitting || err != nil {
					continue
				}
				name := fewNames[w.name]
				if given[name] == nil {
					given[name] = map[int64]bool{}
				}
				if given[name][n] {
					return fmt.Errorf("%s has given %d twice", name, n)
				}
				given[name][n] = true
			}
		}
	}
	for i, r := range x.taken {
		if r.err == nil && !told[r] {
			return fmt.Errorf("batch %d was told numbers, and no commit had it", i)
		}
	}
	return nil
}

// check goes through a commit's batches, one wish after the other.
func (k commitRecord) check(most int) error {
	now, asked := maps.Clone(k.before), int64(0)
	left := counts{} // granted, and not yet passed
	for name, n := range k.after {
		left[name] = n - k.before[name]
	}
	for _, r := range k.batches {
		for j, w := range r.wishes {
			name := fewNames[w.name]
			_, exists := k.after[name]
			var want int64
			var why error
			switch {
			case w.what == readingSum:
				want = now.sum()
			case w.what == reading:
				want = now[name]
			case !exists && len(k.after) < most && !k.full:
				return fmt.Errorf("%s was refused, and there was room", name)
			case !exists && !k.full:
				why = ErrTooMany
			case left[name] == 0:
				why = errNotGranted
			default:
				now[name]++
				left[name]--
				want = now[name]
			}
			if w.what == hitting && (exists || k.full) {
				asked++
			}
			if r.err == ErrTimeout {
				continue // it left before it could be told
			}
			n, err := r.Number(r.places[j])
			switch {
			case why == errNotGranted && k.full && (err == ErrFull || err == ErrTooMany):
			case err != why || n != want:
				return fmt.Errorf("%v: told %d, %v; want %d, %v", w, n, err, want, why)
			}
		}
	}
	for name, n := range left {
		if n != 0 {
			return fmt.Errorf("%d hits on %s were counted for nobody", n, name)
		}
	}
	counted := k.after.sum() - k.before.sum()
	if !k.full && counted != asked || k.full && counted > asked {
		return fmt.Errorf("%d counted of %d", counted, asked)
	}
	if k.full && k.after.sum() != math.MaxInt64 && len(k.after) < most {
		return fmt.Errorf("full at %d", k.after.sum())
	}
	return nil
}

var errNotGranted = errors.New("not granted")

func TestManyCountersModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawManyPlan(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = p.run() })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// An instant store is asked one run of a batch after the other.
func TestManyInstantCountersModel(t *testing.T) {
	refused, full := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		p := drawManyPlan(rt)
		store := NewMemTable(int64(p.most))
		now := maps.Clone(p.initial)
		for name, n := range now {
			if _, _, err := store.AddNow([]byte(name), n); err != nil {
				rt.Fatal(err)
			}
		}
		c := NewInstant(store, Options{})
		for _, s := range p.batches {
			r := newManyRecord(s)
			if !c.Submit(&r.Batch) {
				rt.Fatal("it waits")
			}
			for j, w := range s.wishes {
				name := fewNames[w.name]
				_, exists := now[name]
				var want int64
				var why error
				switch {
				case w.what == readingSum:
					want = now.sum()
				case w.what == reading:
					want = now[name]
				case now.sum() == math.MaxInt64:
					full++
					why = ErrFull
				case !exists && len(now) >= p.most:
					refused++
					why = ErrTooMany
				default:
					now[name]++
					want = now[name]
				}
				if n, err := r.Number(r.places[j]); n != want || err != why {
					rt.Fatalf("%v in %v: told %d, %v; want %d, %v", w, s.wishes, n, err, want, why)
				}
			}
		}
		if err := c.Close(bg); err != nil {
			rt.Fatal(err)
		}
	})
	if refused == 0 || full == 0 {
		t.Errorf("%d hits were refused for want of room, %d since the sum is full: want some of each", refused, full)
	}
}

// A new counter for which there is no room is refused by itself where the sum is
// nearly full: its neighbours in the batch were counted, and are told so.
func TestRefusedNameOnAFullInstantStore(t *testing.T) {
	store := NewMemTable(1)
	if _, _, err := store.AddNow([]byte("/a"), math.MaxInt64-2); err != nil {
		t.Fatal(err)
	}
	c := NewInstant(store, Options{})
	var b Batch
	a, refused := b.Hit([]byte("/a")), b.Hit([]byte("/b"))
	b.Hit([]byte("/b"))
	sum := b.ReadSum()
	c.Submit(&b)
	for _, want := range []struct {
		place Place
		n     int64
		err   error
	}{{a, math.MaxInt64 - 1, nil}, {refused, 0, ErrTooMany}, {sum, math.MaxInt64 - 1, nil}} {
		if n, err := b.Number(want.place); n != want.n || err != want.err {
			t.Errorf("told %d, %v; want %d, %v", n, err, want.n, want.err)
		}
	}
	if err := c.Close(bg); err != nil {
		t.Fatal(err)
	}
}
