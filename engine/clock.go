package engine

import (
	"sync/atomic"
	"time"

	"github.com/counterd/counterd/httpparse"
)

// tick is how coarse the clock is: deadlines are kept to within one tick.
const tick = 50 * time.Millisecond

// mostAtOnce is how far the clock goes in one step. If more time has passed, the
// process stood still (SIGSTOP, a container that is paused or has used up its share),
// and what clients sent meanwhile it could not see.
const mostAtOnce = 2 * tick

// clock is the server's coarse time: reading it costs one load, where asking
// the kernel for every request would cost more than parsing it. It stands still
// while the process does: that time is nobody's delay.
type clock struct {
	start time.Time
	since atomic.Int64 // time.Duration since start, less what it stood still
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
	for last := c.start; ; {
		select {
		case <-c.done:
			return
		case <-t.C:
		}
		now := time.Now()
		c.since.Add(int64(min(now.Sub(last), mostAtOnce)))
		last = now
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

// deadline is the time at which it will be due, unless the process stands still: whoever
// it wakes looks at the clock. The clock lags by up to a tick, and a deadline must not
// come early.
func (c *clock) deadline(due time.Duration) time.Time {
	return time.Now().Add(due - c.now() + tick)
}
