package counter

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// run is the committer: it commits whenever nobody else does.
func (c *Counter) run() {
	for range c.wake {
		for more := true; more; {
			f, ctx := c.takeOff()
			if f == nil {
				c.finish()
				return
			}
			c.commit(f, ctx, nil)
			more = c.release()
		}
	}
}

// lead commits on the goroutine that submitted b, which found nobody committing.
// What else is there by then, or comes later, is not held up by it: the committer
// goes on as soon as b is settled.
func (c *Counter) lead(b *Batch) (settled bool) {
	// Who is about to submit may do so first, and be in this commit.
	runtime.Gosched()
	f, ctx := c.takeOff()
	if f == nil {
		c.wake <- struct{}{} // closed, and b timed out before: the committer ends it
		return false
	}
	settled = c.commit(f, ctx, b)
	if c.release() {
		c.wake <- struct{}{}
	}
	return settled
}

// takeOff makes all that waits the commit on its way. The flight is nil if
// nothing waits and the counter is closed, or all that waited timed out.
func (c *Counter) takeOff() (*flight, context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &c.flight
	f.reset()
	if c.head == nil && c.refuse != nil {
		return nil, nil
	}
	for b := c.head; b != nil; b = b.next {
		f.take(b)
	}
	if c.ctx.Err() != nil {
		c.ctx, c.cancel = context.WithCancel(context.Background())
	}
	return f, c.ctx
}

// release ends the turn of whoever has committed. It returns true if there is
// more to do; then the caller sees to it that it is done.
func (c *Counter) release() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committing = c.head != nil || c.refuse != nil
	return c.committing
}

// commit asks the store and settles what is left of the flight. It returns true
// if own was in it, whose Done isn't called.
func (c *Counter) commit(f *flight, ctx context.Context, own *Batch) bool {
	if f.batches == 0 {
		return false
	}
	start := time.Now()
	sum, err := f.commit(ctx, c.store)
	took := time.Since(start)
	c.took.Store(int64(took))
	if c.opts.Observe != nil {
		c.opts.Observe(f.hits, f.batches, took, err)
	}
	if errors.Is(err, ErrLost) {
		c.lose(err)
		return false
	}
	return c.settle(f, sum, err, own)
}

// settle gives the outcome of the commit to what is left of it.
func (c *Counter) settle(f *flight, sum int64, err error, own *Batch) (settled bool) {
	c.settling.Lock()
	defer c.settling.Unlock()

	c.mu.Lock()
	var b *Batch
	if f.left > 0 {
		b = c.cut(f.last)
		c.weight -= f.weight
	}
	f.left = 0
	c.mu.Unlock()

	good := err == nil || errors.Is(err, ErrFull)
	if good {
		c.total.Store(sum)
		sum = f.land(sum)
		for _, s := range f.steps[:f.gone] {
			f.pass(s, &sum, nil)
		}
	}
	at := f.gone
	for b != nil {
		next := b.next // Done may submit b again
		b.next = nil
		if good {
			for i := range b.runs {
				f.pass(f.steps[at], &sum, &b.runs[i])
				at++
			}
		} else {
			b.err = err
		}
		if b == own {
			settled = true
		} else {
			b.Done(b)
		}
		b = next
	}
	return settled
}
