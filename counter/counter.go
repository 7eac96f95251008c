package counter

import (
	"context"
	"errors"
	"fmt"
	"math"
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

// Options configure a Counter. The zero value is usable.
type Options struct {
	// Timeout is how long a batch may wait from its submission until it is
	// settled; 0 means DefaultTimeout.
	Timeout time.Duration

	// MaxWaiting bounds what is submitted and not settled yet: hits, reads,
	// batches, and every 64 bytes of names. 0 means DefaultMaxWaiting. A larger
	// batch is always refused.
	MaxWaiting int64

	// Observe, if not nil, is called after each commit and before its batches
	// are settled: how many hits and batches were in it, how long the store took,
	// and its error. Calls don't overlap. It must not block. An InstantStore has
	// no commits to observe.
	Observe func(hits int64, batches int, took time.Duration, err error)
}

// Counter gives numbers to hits. It is safe for concurrent use.
type Counter struct {
	store   Store        // nil if it is instant
	instant InstantStore // nil if the store needs waiting
	opts    Options
	epoch   time.Time

	total   atomic.Int64 // last sum that the store has told
	took    atomic.Int64 // time.Duration of the last commit
	waiters sync.Pool    // of *waiter

	// wake holds a token when the committer may commit. Whoever set committing
	// sends it, or commits itself.
	wake    chan struct{}
	lost    chan struct{}
	stopped chan struct{} // closed after the store was closed
	closing sync.Once
	failing sync.Once

	// settling is held while batches are detached and their Done called, so that
	// whoever commits and the timer can't overtake each other. Locked before mu.
	settling sync.Mutex

	mu sync.Mutex
	// One queue in order of submission: first what is left of the commit on its
	// way, then what waits for the next one. Batches leave at the head only, so a
	// settled batch is out of reach at once. Deadlines are in order, too, but for
	// the moment between reading the clock and getting the lock.
	head, tail *Batch
	weight     int64  // of all of the queue
	flight     flight // its deltas belong to whoever commits
	committing bool   // somebody commits, or was told to
	refuse     error  // why nothing more is taken; nil while open
	lostErr    error
	closeErr   error

	timer *time.Timer // for the head of the queue
	armed bool        // the timer will fire, perhaps too early: it then looks again

	// The store's context lives on from commit to commit, and is replaced only
	// when it had to be cancelled: so a commit allocates nothing.
	ctx    context.Context
	cancel context.CancelFunc
}

// New returns a Counter over store, which it owns from now on.
func New(store Store, opts Options) *Counter {
	c := newCounter(opts)
	c.store = plant(store)
	c.timer = time.AfterFunc(math.MaxInt64, c.expire)
	c.timer.Stop()
	go c.run()
	return c
}

// NewInstant returns a Counter over a store that never waits, which it owns from
// now on.
func NewInstant(store InstantStore, opts Options) *Counter {
	c := newCounter(opts)
	c.instant = store
	if lost := store.Lost(); lost != nil {
		go c.watch(lost)
	}
	return c
}

func newCounter(opts Options) *Counter {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.MaxWaiting <= 0 {
		opts.MaxWaiting = DefaultMaxWaiting
	}
	c := &Counter{
		opts:    opts,
		epoch:   time.Now(),
		wake:    make(chan struct{}, 1),
		lost:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	c.waiters.New = newWaiter
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Submit hands b over. If it returns true, b is settled already, and Done isn't
// called: the store is instant, or b was refused with ErrOverloaded, ErrClosed
// or ErrLost. It never waits for the store, and allocates nothing.
func (c *Counter) Submit(b *Batch) (settled bool) {
	if c.instant != nil {
		c.addNow(b)
		return true
	}
	first, refused := c.push(b)
	if first {
		c.wake <- struct{}{}
	}
	return refused
}

// Commit is Submit, but if nobody is committing, the caller does it, and with it
// what others submit meanwhile. So nobody need be woken, and b is settled when
// Commit returns true; if it returns false Done is called, or was already: b timed
// out, or the store is lost. It may take as long as the store does, which nothing
// bounds.
func (c *Counter) Commit(b *Batch) (settled bool) {
	if c.instant != nil {
		c.addNow(b)
		return true
	}
	first, refused := c.push(b)
	if !first {
		return refused
	}
	return c.lead(b)
}

// push appends b to the queue. It returns first if the caller is the one to
// commit, and refused if b was not taken and is settled.
func (c *Counter) push(b *Batch) (first, refused bool) {
	now := time.Since(c.epoch)
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.err = c.refusal(b); b.err != nil {
		return false, true
	}
	b.deadline = now + c.opts.Timeout
	b.next = nil
	if c.tail == nil {
		c.head = b
	} else {
		c.tail.next = b
	}
	c.tail = b
	c.weight += b.weight()
	if !c.armed {
		c.armed = true
		c.timer.Reset(c.opts.Timeout)
	}
	first = !c.committing
	c.committing = true
	return first, false
}

// refusal says why b can't be taken now.
func (c *Counter) refusal(b *Batch) error {
	if c.refuse != nil {
		return c.refuse
	}
	if b.weight() > c.opts.MaxWaiting-c.weight {
		return ErrOverloaded
	}
	return nil
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

// expire is called by the timer. It settles what has waited too long.
func (c *Counter) expire() {
	now := time.Since(c.epoch)
	c.fail(func(b *Batch) bool { return b.deadline <= now }, ErrTimeout)
}

// failAll settles everything in the queue with err.
func (c *Counter) failAll(err error) { c.fail(func(*Batch) bool { return true }, err) }

// fail settles batches at the head of the queue with err as long as they are due.
func (c *Counter) fail(due func(*Batch) bool, err error) {
	c.settling.Lock()
	defer c.settling.Unlock()

	c.mu.Lock()
	b := c.detach(due)
	c.armed = c.head != nil
	if c.armed {
		c.timer.Reset(c.head.deadline - time.Since(c.epoch))
	}
	c.mu.Unlock()

	for b != nil {
		next := b.next // Done may submit b again
		b.next = nil
		b.err = err
		b.Done(b)
		b = next
	}
}

// detach takes batches off the head of the queue as long as they are due.
// A commit on its way that nobody waits for any more is cancelled.
func (c *Counter) detach(due func(*Batch) bool) *Batch {
	var last *Batch
	for b := c.head; b != nil && due(b); b = b.next {
		last = b
		c.weight -= b.weight()
		if f := &c.flight; f.left > 0 {
			f.gone += len(b.runs)
			f.weight -= b.weight()
			if f.left--; f.left == 0 {
				c.cancel()
			}
		}
	}
	if last == nil {
		return nil
	}
	return c.cut(last)
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

// Instant reports whether Submit always settles on the spot.
func (c *Counter) Instant() bool { return c.instant != nil }

// Timeout is Options.Timeout.
func (c *Counter) Timeout() time.Duration { return c.opts.Timeout }

// LastCommit is how long the last commit took; 0 if there was none.
func (c *Counter) LastCommit() time.Duration { return time.Duration(c.took.Load()) }

// Total returns the last sum of all counters that the store has told, without
// asking it. It is 0 until the first commit or read, and with a shared store it
// is behind what others have counted.
func (c *Counter) Total() int64 {
	if c.instant == nil {
		return c.total.Load()
	}
	c.instant.Lock()
	defer c.instant.Unlock()
	_, sum, _ := c.instant.AddNow(nil, 0)
	return sum
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
	if c.instant != nil {
		go c.finish() // an instant store's last write may take its time, too
		return
	}
	c.mu.Lock()
	if c.refuse == nil {
		c.refuse = ErrClosed
	}
	first := !c.committing
	c.committing = true
	c.mu.Unlock()
	if first {
		c.wake <- struct{}{}
	}
}

// finish closes the store. It is the last thing that the counter does.
func (c *Counter) finish() {
	var err error
	if c.instant != nil {
		err = c.instant.Close()
	} else {
		c.timer.Stop()
		err = c.store.Close()
	}
	c.cancel()
	if err != nil {
		c.closeErr = fmt.Errorf("closing the store: %w", err)
	}
	close(c.stopped)
}

// watch notices that an instant store was lost while nobody asks it.
func (c *Counter) watch(lost <-chan struct{}) {
	select {
	case <-lost:
		c.instant.Lock()
		_, _, err := c.instant.AddNow(nil, 0)
		c.instant.Unlock()
		if errors.Is(err, ErrLost) {
			c.lose(err)
		}
	case <-c.stopped:
	}
}
