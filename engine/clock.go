package engine

import (
	"net/http"
	"sync/atomic"
	"time"
)

// tick is how coarse the clock is: deadlines are kept to within one tick.
const tick = 50 * time.Millisecond

// clock is the server's coarse time: reading it costs one load, where asking
// the kernel for every request would cost more than parsing it.
type clock struct {
	start  time.Time
	common string                 // fields of every answer
	since  atomic.Int64           // time.Duration since start
	head   atomic.Pointer[[]byte] // of every 200, up to the number of Content-Length
	date   atomic.Pointer[[]byte] // of every other answer
	done   chan struct{}
	ended  chan struct{}

	// onTick is called by the clock's goroutine after each tick; it must not
	// block.
	onTick atomic.Pointer[func()]
}

// newClock starts a clock for answers that may be read by pages of the origin
// cors; empty: none.
func newClock(cors string) *clock {
	c := &clock{start: time.Now(), done: make(chan struct{}), ended: make(chan struct{})}
	c.common = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
	if cors != "" {
		c.common += "Access-Control-Allow-Origin: " + cors + "\r\n"
	}
	c.format(c.start)
	go c.run()
	return c
}

func (c *clock) run() {
	defer close(c.ended)
	t := time.NewTicker(tick)
	defer t.Stop()
	second := c.start.Unix()
	for {
		select {
		case <-c.done:
			return
		case <-t.C:
		}
		now := time.Now()
		c.since.Store(int64(now.Sub(c.start)))
		if now.Unix() != second {
			second = now.Unix()
			c.format(now)
		}
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

func (c *clock) format(t time.Time) {
	date := t.UTC().AppendFormat([]byte("Date: "), http.TimeFormat)
	date = append(date, "\r\n"...)
	head := append([]byte("HTTP/1.1 200 OK\r\n"+c.common), date...)
	head = append(head, "Content-Length: "...)
	c.date.Store(&date)
	c.head.Store(&head)
}
