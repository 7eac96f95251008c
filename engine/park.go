package engine

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A client that asks and doesn't read is parked until it does: thousands of them may
// be an attack, and what Go needs for a goroutine that waits for a socket it never
// gives back, about 1 KB each.

// parked is a connection that has left its loop since its socket took no more, and
// has taken nothing since.
type parked struct {
	*moved
	fd    int           // its only descriptor
	since time.Duration // when it was parked, by the server's clock
	next  time.Duration // when it is tried again
	pause time.Duration // before that
}

// longestPause is the longest between two tries. A client that begins to read after
// a while waits no longer, and thousands that don't cost little.
const longestPause = time.Second

// parking is all of them.
type parking struct {
	s      *Server
	others *goroutines

	mu  sync.Mutex
	all []*parked
}

// put parks a connection. It returns false in a drain, where all have to come to
// their end.
func (p *parking) put(fd int, m *moved) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.draining.Load() {
		return false
	}
	now := p.s.clock.now()
	p.all = append(p.all, &parked{moved: m, fd: fd, since: now, next: now + tick, pause: tick})
	return true
}

// try tries whose time it is: whoever takes something gets a goroutine, and whoever
// has gone, or takes nothing for too long, is closed. The clock's goroutine calls it.
func (p *parking) try() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.s.clock.now()
	waiting := p.all[:0]
	for _, c := range p.all {
		if now < c.next || p.waits(c, now) {
			waiting = append(waiting, c)
		}
	}
	clear(p.all[len(waiting):])
	if p.all = waiting; len(waiting) == 0 {
		p.all = nil // or it stays as large as it ever was
	}
}

// waits tries one. It returns false if it isn't parked any more.
func (p *parking) waits(c *parked, now time.Duration) bool {
	n, err := unix.Write(c.fd, c.out)
	switch {
	case n > 0:
		c.out = c.out[n:]
		p.leave(c, now)
		return false
	case err != unix.EAGAIN && err != unix.EINTR, now-c.since >= p.s.cfg.WriteTimeout:
		unix.Close(c.fd)
		p.s.release(c.generation, c.lingers)
		return false
	}
	c.pause = min(2*c.pause, longestPause)
	c.next = now + c.pause
	return true
}

// leave gives a connection to a goroutine.
func (p *parking) leave(c *parked, now time.Duration) {
	nc, err := netConn(c.fd)
	if err != nil {
		p.s.cutLeaving(err)
		p.s.release(c.generation, c.lingers)
		return
	}
	p.others.adopt(nc, c.moved, now-c.since > unreadTime)
}

// leaveAll gives all to goroutines, at the beginning of a drain.
func (p *parking) leaveAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		p.leave(c, p.s.clock.now())
	}
	p.all = nil
}
