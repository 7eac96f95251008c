package counter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultTimeout is used where Options.Timeout is 0.
	DefaultTimeout = 5 * time.Second

	// DefaultMaxWaiting is used where Options.MaxWaiting is 0.
	DefaultMaxWaiting = 1 << 20
)

// Store keeps one count that only grows.
type Store interface {
	// Add adds n ≥ 0 and returns the new total, which is durable when err is nil.
	// Add(ctx, 0) reads. One goroutine at a time calls it.
	//
	// ErrFull: the total would pass 2^63-1; nothing was added. ErrLost: never
	// again. Any other error: whether n was added is unknown, and the next call
	// may succeed. ctx ends once nobody waits for the outcome.
	Add(ctx context.Context, n int64) (total int64, err error)

	// Close releases the store. Nothing is called after it but AddNow, which may
	// still be on its way.
	Close() error
}

// InstantStore is a store that never waits.
type InstantStore interface {
	Store

	// AddNow is Add without waiting, safe for concurrent use. After Close it
	// must not count what Close doesn't keep.
	AddNow(n int64) (total int64, err error)
}

// A failingStore can be lost while nobody asks it, because it writes in the
// background. AddNow(0) then says why.
type failingStore interface {
	InstantStore
	Failed() <-chan struct{}
}

// Options configure a Counter. The zero value is usable.
type Options struct {
	// Timeout is how long a batch may wait from Submit until it is settled;
	// 0 means DefaultTimeout.
	Timeout time.Duration

	// MaxWaiting bounds what is submitted and not settled yet, in hits plus
	// batches; 0 means DefaultMaxWaiting. A larger batch is always refused.
	MaxWaiting int64

	// Observe, if not nil, is called after each commit and before its batches
	// are settled, on the counter's goroutine: how many hits and batches were in
	// it, how long the store took, and its error. It must not block. An
	// InstantStore has no commits to observe.
	Observe func(hits int64, batches int, took time.Duration, err error)

	// OwnThread gives the committer an operating system's thread of its own: good
	// for a store that blocks its thread, as a disk does. On Linux it is scheduled
	// as SCHED_OTHER also where the process is SCHED_BATCH, so that a commit that is
	// done doesn't wait for the work that waits for it.
	OwnThread bool
}

// Batch is a run of hits and of reads between them. Set Hits and Done, then
// Submit it; the counter owns it until it is settled. After that it can be
// submitted again, also from within Done.
type Batch struct {
	// Hits is how many numbers are wanted, ≥ 0. With 0 it is a read.
	Hits int64

	// First is the number of the first hit: hit i in [0, Granted) got First+i.
	// A read that stands after k hits of the batch shows First-1+min(k, Granted).
	// (On a full counter First wraps around, and First-1 wraps back.)
	First int64

	// Granted is how many hits were counted; hits beyond it failed with Err.
	Granted int64

	// Err is why Granted < Hits, or why a read failed. With ErrFull reads are
	// still good; with any other error First is 0 and Granted is 0.
	Err error

	// Done is called once when the batch is settled, unless Submit returned true.
	// It runs on a goroutine of the counter or within Close, one at a time and in
	// order of submission, so it must not block. It may call Submit, not Close.
	Done func(*Batch)

	next     *Batch
	deadline time.Duration // since Counter.epoch
}

// Counter gives numbers to hits. It is safe for concurrent use.
type Counter struct {
	store   Store
	instant InstantStore // nil if the store needs waiting
	opts    Options
	epoch   time.Time

	closed  atomic.Bool
	total   atomic.Int64 // last known; unused with an InstantStore
	waiters sync.Pool    // of *waiter, for Add and Read

	madeReady atomic.Bool // a waiter was settled: its goroutine is ready to run

	wake    chan struct{}
	lost    chan struct{}
	stopped chan struct{} // closed after the store was closed
	closing sync.Once
	failing sync.Once

	// settling is held while batches are detached and their Done called, so that
	// the committer and the timer can't overtake each other. Locked before mu.
	settling sync.Mutex

	mu sync.Mutex
	// One queue in order of submission: first what is left of the commit on its
	// way, then what waits for the next one. Batches leave at the head only, so a
	// settled batch is out of reach at once. Deadlines are in order, too, but for
	// the moment between reading the clock and getting the lock.
	head, tail *Batch
	flight     flight
	waiting    group
	idle       bool  // the committer sleeps and wants a token in wake
	refuse     error // why nothing more is taken; nil while open
	lostErr    error
	closeErr   error

	timer *time.Timer // for the head of the queue
	armed bool        // the timer will fire, perhaps too early: it then looks again

	// The store's context lives on from commit to commit, and is replaced only
	// when it had to be cancelled: so a commit allocates nothing.
	ctx    context.Context
	cancel context.CancelFunc
}

// group is a run of batches in the queue.
type group struct {
	batches int
	hits    int64
}

// flight is the commit on its way.
type flight struct {
	left group  // not settled yet: the first batches of the queue
	last *Batch // the last of them
	gone int64  // hits of batches that timed out: in the sum, before all that is left
}

// New returns a Counter over store, which it owns from now on.
func New(store Store, opts Options) *Counter {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.MaxWaiting <= 0 {
		opts.MaxWaiting = DefaultMaxWaiting
	}
	c := &Counter{
		store:   store,
		opts:    opts,
		epoch:   time.Now(),
		wake:    make(chan struct{}, 1),
		lost:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	c.waiters.New = c.newWaiter
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if s, ok := store.(InstantStore); ok {
		c.instant = s
		if f, ok := s.(failingStore); ok {
			go c.watch(f)
		}
		return c
	}
	c.timer = time.AfterFunc(math.MaxInt64, c.expire)
	c.timer.Stop()
	go c.run()
	return c
}

// Submit hands b over. If it returns true, b is settled already, and Done isn't
// called: the store is instant, or b was refused with ErrOverloaded, ErrClosed
// or ErrLost. It never blocks on the store and allocates nothing.
func (c *Counter) Submit(b *Batch) (settled bool) {
	if b.Hits < 0 {
		panic("counter: negative number of hits")
	}
	b.First, b.Granted, b.Err = 0, 0, nil
	if c.instant != nil {
		c.addNow(b)
		return true
	}
	now := time.Since(c.epoch)

	c.mu.Lock()
	if err := c.refusal(b); err != nil {
		c.mu.Unlock()
		b.Err = err
		return true
	}
	if plantedBug == "dirty-read" && b.Hits == 0 && c.head != nil {
		b.First = c.total.Load() + c.flight.left.hits + c.waiting.hits + 1
		c.mu.Unlock()
		return true
	}
	b.deadline = now + c.opts.Timeout
	c.push(b)
	if !c.armed {
		c.armed = true
		c.timer.Reset(c.opts.Timeout)
	}
	wake := c.idle
	c.idle = false
	c.mu.Unlock()

	if wake {
		c.wake <- struct{}{}
	}
	return false
}

// refusal says why b can't be taken now.
func (c *Counter) refusal(b *Batch) error {
	if c.refuse != nil {
		return c.refuse
	}
	used := c.flight.left.hits + c.waiting.hits + int64(c.flight.left.batches+c.waiting.batches)
	if b.Hits >= c.opts.MaxWaiting-used { // ≥: the batch itself weighs one
		return ErrOverloaded
	}
	return nil
}

func (c *Counter) push(b *Batch) {
	b.next = nil
	if c.tail == nil {
		c.head = b
	} else {
		c.tail.next = b
	}
	c.tail = b
	c.waiting.batches++
	c.waiting.hits += b.Hits
}

// cut detaches the queue up to and including last, and returns its head.
func (c *Counter) cut(last *Batch) *Batch {
	b := c.head
	c.head = last.next
	if c.head == nil {
		c.tail = nil
	}
	last.next = nil
	return b
}

// run is the committer.
func (c *Counter) run() {
	if c.opts.OwnThread {
		runtime.LockOSThread() // ends with the goroutine, and so does the thread
		scheduleNormally()
	}
	for {
		ctx, g, ok := c.take()
		if !ok {
			c.finish()
			return
		}
		start := time.Now()
		total, granted, err := c.commit(ctx, g.hits)
		if c.opts.Observe != nil {
			c.opts.Observe(g.hits, g.batches, time.Since(start), err)
		}
		if errors.Is(err, ErrLost) {
			c.lose(err)
			continue
		}
		c.settle(total, granted, err)
		// Goroutines that this has made ready wait for this processor, which the
		// store may hold for a while: they go first.
		if c.madeReady.Swap(false) {
			runtime.Gosched()
		}
	}
}

// take waits until there is something to commit and marks all of it as on its
// way. It returns false once the counter is closed and nothing waits.
func (c *Counter) take() (context.Context, group, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.head == nil {
		if c.refuse != nil {
			return nil, group{}, false
		}
		c.idle = true
		c.mu.Unlock()
		<-c.wake
		c.mu.Lock()
	}
	c.flight = flight{left: c.waiting, last: c.tail}
	c.waiting = group{}
	if c.ctx.Err() != nil {
		c.ctx, c.cancel = context.WithCancel(context.Background())
	}
	return c.ctx, c.flight.left, true
}

// commit adds hits, or as many of them as fit below 2^63-1 (then err is
// ErrFull, and total is good).
func (c *Counter) commit(ctx context.Context, hits int64) (total, granted int64, err error) {
	return grant(hits, func(n int64) (int64, error) { return c.store.Add(ctx, n) })
}

func grant(hits int64, add func(int64) (int64, error)) (total, granted int64, err error) {
	total, err = add(hits)
	if err == nil {
		return total, hits, nil
	}
	for errors.Is(err, ErrFull) {
		if total, err = add(0); err != nil {
			return 0, 0, err
		}
		rest := min(hits, math.MaxInt64-total)
		if rest == 0 {
			return total, 0, ErrFull
		}
		// Somebody else may take the rest in between; then the next round sees less.
		if total, err = add(rest); err == nil {
			return total, rest, ErrFull
		}
	}
	return 0, 0, err
}

// settle gives the outcome of the commit on its way to what is left of it.
func (c *Counter) settle(total, granted int64, err error) {
	c.settling.Lock()
	defer c.settling.Unlock()

	c.mu.Lock()
	f := c.flight
	c.flight = flight{}
	var b *Batch
	if f.left.batches > 0 {
		b = c.cut(f.last)
	}
	c.mu.Unlock()

	if err != nil && err != ErrFull {
		fail(b, err)
		return
	}
	c.total.Store(total)
	// Those who gave up came first, and so did their hits.
	gone := min(f.gone, granted)
	first, rest := total-granted+1+gone, granted-gone
	if plantedBug == "off-by-one" && b != nil && b.next != nil {
		first++
	}
	for b != nil {
		next := b.next
		b.next = nil
		b.number(first, rest)
		first, rest = first+b.Granted, rest-b.Granted
		b.Done(b)
		b = next
	}
}

// number gives b its numbers from first on, of which rest are left.
func (b *Batch) number(first, rest int64) {
	b.First = first
	b.Granted = min(b.Hits, rest)
	if b.Granted < b.Hits {
		b.Err = ErrFull
	}
}

// fail settles a detached list of batches with err.
func fail(b *Batch, err error) {
	for b != nil {
		next := b.next // Done may submit b again
		b.next = nil
		b.Err = err
		b.Done(b)
		b = next
	}
}

// expire is called by the timer. It settles what has waited too long.
func (c *Counter) expire() {
	c.settling.Lock()
	defer c.settling.Unlock()

	c.mu.Lock()
	now := time.Since(c.epoch)
	late := c.detach(func(b *Batch) bool { return b.deadline <= now })
	c.armed = c.head != nil
	if c.armed {
		c.timer.Reset(c.head.deadline - now)
	}
	c.mu.Unlock()

	fail(late, ErrTimeout)
}

// detach takes batches off the head of the queue as long as they are due.
// A commit on its way that nobody waits for any more is cancelled.
func (c *Counter) detach(due func(*Batch) bool) *Batch {
	var last *Batch
	for b := c.head; b != nil && due(b); b = b.next {
		last = b
		if c.flight.left.batches == 0 {
			c.waiting.batches--
			c.waiting.hits -= b.Hits
			continue
		}
		c.flight.left.batches--
		c.flight.left.hits -= b.Hits
		c.flight.gone += b.Hits
		if c.flight.left.batches == 0 {
			c.cancel()
		}
	}
	if last == nil {
		return nil
	}
	return c.cut(last)
}

// failAll settles everything in the queue with err.
func (c *Counter) failAll(err error) {
	c.settling.Lock()
	defer c.settling.Unlock()

	c.mu.Lock()
	all := c.detach(func(*Batch) bool { return true })
	c.mu.Unlock()

	fail(all, err)
}

// lose ends everything with err, which is ErrLost.
func (c *Counter) lose(err error) {
	c.failing.Do(func() {
		c.mu.Lock()
		c.lostErr = err
		c.refuse = err
		c.mu.Unlock()
		c.failAll(err)
		close(c.lost)
	})
}

// addNow settles b by the instant store.
func (c *Counter) addNow(b *Batch) {
	if c.closed.Load() {
		b.Err = ErrClosed
		return
	}
	total, err := c.instant.AddNow(b.Hits)
	if err == nil {
		b.First, b.Granted = total-b.Hits+1, b.Hits
		return
	}
	c.addNowRest(b, err)
}

// addNowRest settles b after AddNow failed with err.
func (c *Counter) addNowRest(b *Batch, err error) {
	if errors.Is(err, ErrFull) {
		var total, granted int64
		total, granted, err = grant(b.Hits, c.instant.AddNow)
		if err == nil || err == ErrFull {
			b.number(total-granted+1, granted)
			return
		}
	}
	if errors.Is(err, ErrLost) {
		c.lose(err)
	}
	b.Err = err
}

// watch notices that an instant store was lost while nobody asks it.
func (c *Counter) watch(s failingStore) {
	select {
	case <-s.Failed():
		if _, err := s.AddNow(0); errors.Is(err, ErrLost) {
			c.lose(err)
		}
	case <-c.stopped:
	}
}

// Instant says whether Submit always settles on the spot.
func (c *Counter) Instant() bool { return c.instant != nil }

// Total returns the last total that the store has told, without asking it. It
// is 0 until the first commit or read, and with a shared store it is behind
// what others have counted.
func (c *Counter) Total() int64 {
	if c.instant == nil {
		return c.total.Load()
	}
	total, _ := c.instant.AddNow(0)
	return total
}

// Lost returns a channel that is closed when the store is lost for ever.
func (c *Counter) Lost() <-chan struct{} { return c.lost }

// Err returns why the store was lost, or nil.
func (c *Counter) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lostErr
}

// Close takes no more batches, waits until those that were taken are settled,
// and closes the store. If ctx ends first, what still waits fails with
// ErrTimeout, and Close returns an error while the store may still be busy; it
// is closed as soon as it answers. Calling Close again waits again.
func (c *Counter) Close(ctx context.Context) error {
	c.closing.Do(c.startClose)
	select {
	case <-c.stopped:
		return c.closeErr
	case <-ctx.Done():
	}
	c.failAll(ErrTimeout)
	return fmt.Errorf("waiting for the store: %w", context.Cause(ctx))
}

func (c *Counter) startClose() {
	c.closed.Store(true)
	c.mu.Lock()
	if c.refuse == nil {
		c.refuse = ErrClosed
	}
	wake := c.idle
	c.idle = false
	c.mu.Unlock()

	if c.instant != nil {
		go c.finish() // an instant store's last write may take its time, too
		return
	}
	if wake {
		c.wake <- struct{}{}
	}
}

// finish closes the store. It is the last thing that the counter does.
func (c *Counter) finish() {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.cancel()
	if err := c.store.Close(); err != nil {
		c.closeErr = fmt.Errorf("closing the store: %w", err)
	}
	close(c.stopped)
}
