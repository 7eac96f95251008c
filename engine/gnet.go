package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// reactor is the model with event loops. gnet waits for events and reads; the
// rest is ours, for gnet buffers without bound in both directions, drops unsent
// output when it closes, and closes as soon as the client half-closes:
//
//   - A loop writes to the socket itself. A connection whose socket takes no
//     more leaves the loop: when it takes something again a goroutine serves
//     it, whose blocking write is the backpressure. So nothing of ours ever
//     lies in gnet's buffers.
//   - A client that has half-closed while an answer is still to come goes the
//     same way.
//   - Nothing is written to a connection that is gone: its descriptor number
//     may be another client's by then.
type reactor struct {
	gnet.BuiltinEventEngine
	s       *Server
	loops   []*loop
	others  *goroutines // serves the connections that left their loop
	parking parking     // of those that have to wait for that

	entering chan struct{} // a place for each connection on its way to a loop
	enrolls  sync.WaitGroup
}

// mostEntering bounds the connections on their way to a loop, each of which holds
// two descriptors, for gnet duplicates it.
const mostEntering = 8

func newReactor(s *Server) (*reactor, error) {
	r := &reactor{s: s, others: newGoroutines(s), entering: make(chan struct{}, mostEntering)}
	r.parking = parking{s: s, others: r.others}
	for i := range s.cfg.Loops {
		l := newLoop(r, i)
		if err := l.start(); err != nil {
			r.stop()
			return nil, err
		}
		r.loops = append(r.loops, l)
	}
	onTick := r.onTick
	s.clock.onTick.Store(&onTick)
	return r, nil
}

// start starts gnet's event loop. Each has a gnet client of its own: one client
// with several loops looks for the emptiest before those that it was just given
// have arrived there, so a burst of connections may go to one loop.
func (l *loop) start() error {
	client, err := gnet.NewClient(l.r,
		gnet.WithNumEventLoop(1),
		gnet.WithReadBufferCap(readSize),
		gnet.WithTCPNoDelay(gnet.TCPDelay), // package net has set TCP_NODELAY already
		gnet.WithLogger(logger{l.r.s.cfg.Log}),
	)
	if err != nil {
		return fmt.Errorf("gnet: %w", err)
	}
	if err := client.Start(); err != nil {
		return fmt.Errorf("start event loop: %w", err)
	}
	l.client = client
	return nil
}

// together is how many connections one loop gets before the next one gets any,
// where the store is a disk: loops that share them commit smaller batches, and
// wait for each other.
const together = 256

// pick returns the loop for a new connection, or nil if each waits for a disk that
// doesn't answer.
func (r *reactor) pick() *loop {
	var best *loop
	for _, l := range r.loops {
		if l.turn.Load() == relieved {
			continue
		}
		if r.s.cfg.Disk && l.conns.Load() < together {
			return l
		}
		if best == nil || l.conns.Load() < best.conns.Load() {
			best = l
		}
	}
	return best
}

// serve gives the connection to a loop. EnrollContext waits for the loop's next
// turn, so it has a goroutine: the acceptor may have many more connections to hand
// over.
func (r *reactor) serve(nc net.Conn, g generation) {
	r.entering <- struct{}{}
	e := &entrant{nc: nc, leave: sync.OnceFunc(func() { <-r.entering })}
	l := r.pick()
	c := &conn{loop: l, generation: g}
	if l == nil || !l.expect(c, e) {
		e.leave()
		r.others.serve(nc, g)
		return
	}
	r.enrolls.Add(1)
	go func() {
		defer r.enrolls.Done()
		_, err := l.client.EnrollContext(nc, c)
		e.leave() // not before: until now nc was open beside gnet's
		if !l.arrived(c) {
			return // it was opened, or taken over
		}
		if err == nil {
			err = errNotPolled
		}
		r.s.cfg.Log.Warn("connection lost before it reached its loop", "err", err)
		l.conns.Add(-1)
		r.s.release(g, false)
	}()
}

// entrant is a connection on its way to a loop.
type entrant struct {
	nc    net.Conn
	leave func() // its place; it may be called again
}

// errNotPolled: gnet says nothing when epoll or kqueue refuses a connection, and
// OnOpen and OnClose are not called.
var errNotPolled = errors.New("it cannot be polled")

// expect notes that a connection is on its way to the loop. It returns false if
// the loop takes none now.
func (l *loop) expect(c *conn, e *entrant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn.Load() == relieved {
		return false
	}
	l.entering[c] = e
	l.conns.Add(1)
	return true
}

// arrived reports whether a connection was still expected, and ends that.
func (l *loop) arrived(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.entering[c]; !ok {
		return false
	}
	delete(l.entering, c)
	return true
}

// onTick is called by the clock.
func (r *reactor) onTick() {
	for _, l := range r.loops {
		l.relieve()
		l.wake(l.sweepTask)
	}
	r.parking.try()
}

// OnOpen is called on the connection's loop.
func (r *reactor) OnOpen(gc gnet.Conn) ([]byte, gnet.Action) {
	c := gc.Context().(*conn)
	c.gc = gc
	if l := c.loop; l.el == nil {
		l.mu.Lock()
		l.el = gc.EventLoop()
		l.mu.Unlock()
	}
	if !c.loop.arrived(c) {
		c.state = gone // a goroutine serves it already
		return nil, gnet.Close
	}
	c.loop.open(c)
	return nil, gnet.None
}

// OnTraffic is called on the connection's loop with what one read brought.
func (r *reactor) OnTraffic(gc gnet.Conn) gnet.Action {
	c := gc.Context().(*conn)
	data, _ := gc.Next(-1)
	if c.state != gone {
		c.loop.read(c, data)
		c.loop.endOfRead()
	}
	if c.state == gone {
		return gnet.Close // it is closed already, and gnet must not touch it again
	}
	return gnet.None
}

// OnClose is called on the connection's loop while its descriptor is still
// open.
func (r *reactor) OnClose(gc gnet.Conn, err error) gnet.Action {
	c := gc.Context().(*conn)
	l := c.loop
	switch {
	case c.state == gone:
	case c.state.live() && c.owed > 0 && errors.Is(err, io.EOF) && l.leave(c):
		// It has said all it wants to, and is still owed answers.
	default:
		l.forget(c)
		r.s.release(c.generation, c.lingers)
	}
	return gnet.None
}

func (r *reactor) retire() {
	for _, l := range r.loops {
		l.wake(l.drainTask)
	}
	r.parking.leaveAll()
	r.others.retire()
}

func (r *reactor) settle(ctx context.Context) { r.others.settle(ctx) }

func (r *reactor) close(ctx context.Context) {
	r.others.close(ctx) // which waits for those of the loops too
	r.s.clock.onTick.Store(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.enrolls.Wait()
		r.stop()
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		// It may wait for a disk that doesn't answer; or ctx had ended before.
		select {
		case <-stopped:
		case <-time.After(patient):
		}
	}
}

// stop ends the event loops.
func (r *reactor) stop() {
	for _, l := range r.loops {
		l.mu.Lock()
		l.stopped = true
		l.mu.Unlock()
		if err := l.client.Stop(); err != nil {
			r.s.cfg.Log.Debug("gnet stopped", "err", err)
		}
	}
}
