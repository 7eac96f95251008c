package counter

import "context"

// waiter is a Batch that one goroutine waits for.
type waiter struct {
	Batch
	done chan struct{}
}

func (c *Counter) newWaiter() any {
	w := &waiter{done: make(chan struct{}, 1)}
	w.Done = func(*Batch) {
		w.done <- struct{}{}
		c.madeReady.Store(true)
	}
	return w
}

// Add counts hits and waits for the number of the first one. If ctx ends first,
// they may or may not have been counted. With ErrFull some may have been; use
// Submit to know how many.
func (c *Counter) Add(ctx context.Context, hits int64) (first int64, err error) {
	w := c.waiters.Get().(*waiter)
	w.Hits = hits
	if !c.Submit(&w.Batch) {
		select {
		case <-w.done:
		case <-ctx.Done():
			// The counter still owns the batch, so it can't go back to the pool.
			return 0, context.Cause(ctx)
		}
	}
	first, err = w.First, w.Err
	c.waiters.Put(w)
	return first, err
}

// Read returns the count: at least every number that was given before it was
// called.
func (c *Counter) Read(ctx context.Context) (int64, error) {
	next, err := c.Add(ctx, 0)
	if err != nil {
		return 0, err
	}
	return next - 1, nil
}
