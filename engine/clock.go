package engine

import (
	"sync/atomic"
	"time"

	"github.com/counterd/counterd/httpparse"
)

// tick is how coarse the clock is: deadlines are kept to within one tick.
const tick = 50 * time.Millisecond

// clock is the server's coarse time: reading it costs one load, where asking
// the kernel for every request would cost more than parsing it.
type clock struct {
	start time.Time
	since atomic.Int64 // time.Duration since start
	date  httpparse.Date
	done  chan struct{}
	ended chan struct{}

	// onTick is called by the clock's goroutine after each tick; it must not
	// block.
	onTick atomic.Pointer[func()]
}

func newClock() *clock {
	c := &clock{start: time.Now(), done: make(chan struct{}), ended: make(chan struct{})}
	c.date.Set(c.start)
	go c.run()
	return c
}

func (c *clock) run() {
	defer close(c.ended)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-t.C:
		}
		now := time.Now()
		c.since.Store(int64(now.Sub(c.start)))
		c.date.Set(now)
		if f := c.onTick.Load(); f != nil {
			(*f)()
		}
	}
}

func (c *clock) stop() {
	close(c.done)
	<-c.ended
}

// now is the time since the server's start, as of the last tick.
func (c *clock) now() time.Duration { return time.Duration(c.since.Load()) }

// exact is now, asked of the kernel.
func (c *clock) exact() time.Duration { return time.Since(c.start) }

// at is the time of a deadline. The coarse clock lags by up to a tick, and a
// deadline must not come early.
func (c *clock) at(due time.Duration) time.Time { return c.start.Add(due + tick) }
