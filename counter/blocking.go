package counter

import "context"

// waiter is a Batch that one goroutine waits for.
type waiter struct {
	Batch
	done chan struct{}
}

func newWaiter() any {
	w := &waiter{done: make(chan struct{}, 1)}
	w.Done = func(*Batch) { w.done <- struct{}{} }
	return w
}

// ReadSum returns the sum of all counters: at least every number that was given
// before it was called. It waits until ctx ends, at most.
func (c *Counter) ReadSum(ctx context.Context) (int64, error) {
	w := c.waiters.Get().(*waiter)
	w.Reset()
	p := w.Batch.ReadSum()
	if !c.Submit(&w.Batch) {
		select {
		case <-w.done:
		case <-ctx.Done():
			// The counter still owns the batch, so it can't go back to the pool.
			return 0, context.Cause(ctx)
		}
	}
	defer c.waiters.Put(w)
	return w.Number(p)
}
