package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// goroutines is the model with a goroutine per connection. The reactor uses it
// too, for the connections that an event loop cannot serve: those whose client
// does not read, or has closed its half while an answer is still to come. Here
// a write that blocks is the backpressure.
type goroutines struct {
	s       *Server
	scratch sync.Pool // of *scratch
	nth     atomic.Uint32
	stopped chan struct{} // closed when what is left is cut

	mu    sync.Mutex
	talks map[*talk]struct{}
}

func newGoroutines(s *Server) *goroutines {
	g := &goroutines{s: s, talks: make(map[*talk]struct{}), stopped: make(chan struct{})}
	g.scratch.New = func() any { return newScratch(s.limits) }
	return g
}

// scratch is what a connection needs only while it works on a read; an idle
// one has none.
type scratch struct {
	parser  *httpparse.Parser
	answers []answer
	out     []byte
	batch   counter.Batch
	settled chan struct{}
}

func newScratch(l httpparse.Limits) *scratch {
	w := &scratch{parser: httpparse.NewParser(l), settled: make(chan struct{}, 1)}
	w.batch.Done = func(*counter.Batch) { w.settled <- struct{}{} }
	return w
}

// What a talk is doing, for a drain to know whom it may interrupt.
const (
	fresh   int32 = iota // waits for the first byte
	idle                 // waits between requests
	midway               // waits for the rest of a request
	working              // does not wait for the client to send
)

// talk is a connection and the goroutine that serves it.
type talk struct {
	g  *goroutines
	nc net.Conn
	session
	in    []byte // what has been read and not taken
	tally *tally

	phase   atomic.Int32
	timed   bool          // the request we wait for has its deadline
	readBy  time.Duration // the deadline that is set, by the server's clock
	writeBy time.Duration
	last    bool // the client left its answers unread: the next is its last
}

func (g *goroutines) serve(nc net.Conn) {
	t := g.add(nc)
	t.timed = true
	t.readDeadline(g.s.clock.now() + g.s.cfg.ReadTimeout)
	go t.run(nil)
}

func (g *goroutines) add(nc net.Conn) *talk {
	t := &talk{g: g, nc: nc, tally: g.s.stats.shard(int(g.nth.Add(1)))}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.talks[t] = struct{}{}
	select {
	case <-g.stopped: // it left its loop while the others were cut
		nc.Close()
	default:
	}
	return t
}

func (t *talk) remove() {
	t.nc.Close()
	t.g.mu.Lock()
	delete(t.g.talks, t)
	t.g.mu.Unlock()
	t.g.s.release()
}

// run serves the connection to its end. m is nil unless an event loop has served
// it before.
func (t *talk) run(m *moved) {
	defer t.remove()
	if m != nil && !t.deliver(m) {
		return
	}
	for t.answer() && t.read() {
	}
}

// answer answers every request that has arrived. It returns false when the
// connection has ended.
func (t *talk) answer() bool {
	if len(t.in) == 0 {
		return true
	}
	w := t.g.scratch.Get().(*scratch)
	defer t.g.scratch.Put(w)
	rest := t.in
	for {
		room := burst
		if t.last {
			room = 1
		}
		var hits int32
		rest, w.answers, hits = t.gather(w.parser, rest, w.answers[:0], room, 0)
		if len(w.answers) == 0 {
			break
		}
		if w.answers[len(w.answers)-1].kind != proceed {
			t.timed = false
		}
		b := t.settle(w, int64(hits))
		// A drain may have begun while the store worked.
		if t.g.s.draining.Load() {
			t.windUp(w.answers, rest)
		}
		if t.last {
			t.conclude(w.answers)
		}
		t.render(w, b)
		if t.write(w.out) != nil {
			return false
		}
		if t.done {
			t.finish()
			return false
		}
	}
	t.in = t.in[:copy(t.in, rest)]
	return true
}

// settle gets the numbers for the answers in w. It returns nil when none of
// them asks for one.
func (t *talk) settle(w *scratch, hits int64) *counter.Batch {
	if !asks(w.answers) {
		return nil
	}
	w.batch.Hits = hits
	if !t.g.s.counter.Submit(&w.batch) {
		<-w.settled
	}
	return &w.batch
}

// render renders the answers in w into w.out.
func (t *talk) render(w *scratch, b *counter.Batch) {
	w.out = w.out[:0]
	for _, a := range w.answers {
		w.out = appendAnswer(w.out, t.g.s.clock, a, b)
	}
	t.g.s.stats.answered(t.tally, w.answers, b)
}

// read waits for more bytes. It returns false when the connection has ended.
func (t *talk) read() bool {
	if len(t.in) == cap(t.in) {
		t.in = append(make([]byte, 0, max(4<<10, 2*cap(t.in))), t.in...)
	}
	for {
		t.armRead()
		// A drain first says that it drains, then looks at the phase; we set
		// the phase first and then look, so one of us sees the other.
		if t.phase.Load() == idle && t.g.s.draining.Load() {
			t.finish()
			return false
		}
		n, err := t.nc.Read(t.in[len(t.in):cap(t.in)])
		if n > 0 {
			t.phase.Store(working)
			t.in = t.in[:len(t.in)+n]
			return true
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || t.expired() {
			return false
		}
	}
}

// armRead sets the deadline of the next read: of the request that we wait for,
// once, when its first byte came or the connection was accepted; or of an idle
// connection.
func (t *talk) armRead() {
	cfg, now := &t.g.s.cfg, t.g.s.clock.now()
	switch {
	case !t.between(t.in):
		if !t.timed {
			t.timed = true
			t.readDeadline(now + cfg.ReadTimeout)
		}
		t.phase.Store(midway)
	case t.timed:
		t.phase.Store(fresh)
	default:
		// A deadline that is a little late saves setting a timer for each
		// request.
		if due := now + cfg.IdleTimeout; t.readBy < due || t.readBy > due+cfg.IdleTimeout/16+tick {
			t.readDeadline(due + cfg.IdleTimeout/16)
		}
		t.phase.Store(idle)
	}
}

func (t *talk) readDeadline(due time.Duration) {
	t.readBy = due
	t.nc.SetReadDeadline(t.g.s.clock.at(due))
}

// expired acts on a read deadline that has passed. It returns false when there
// is more to wait for.
func (t *talk) expired() bool {
	phase := t.phase.Load()
	if phase == midway && t.g.s.clock.exact() < t.readBy {
		// A drain took us for idle just when a request began.
		t.readDeadline(t.readBy)
		return false
	}
	if phase == midway {
		t.g.s.stats.refuse(errSlow.Reason)
		if t.write(appendAnswer(nil, t.g.s.clock, t.slow(t.in), nil)) != nil {
			return true
		}
	}
	t.finish()
	return true
}

// write writes all of b. The timeout counts from the last byte that the client
// took. The kernel says that we may write again only when a good part of what it
// holds for the client is gone; so from time to time we try unasked.
func (t *talk) write(b []byte) error {
	began := t.g.s.clock.now()
	took := began // when the client last took something, as far as we know
	for {
		t.armWrite()
		n, err := t.nc.Write(b)
		if err == nil {
			t.last = t.last || t.g.s.clock.now()-began > unreadTime
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		b = b[n:]
		now := t.g.s.clock.exact()
		if n > 0 {
			took = now
		}
		if now-took >= t.g.s.cfg.WriteTimeout {
			return err
		}
	}
}

// armWrite sets the time of the next try, unless the one that is set will do.
func (t *talk) armWrite() {
	step := t.g.s.cfg.WriteTimeout / 8
	if due := t.g.s.clock.now() + step; t.writeBy < due {
		t.writeBy = due + step/2
		t.nc.SetWriteDeadline(t.g.s.clock.at(t.writeBy))
	}
}

// finish half-closes the connection and reads it off, so that what was written
// arrives. The caller closes it.
func (t *talk) finish() {
	t.phase.Store(working)
	readOff(t.nc, t.g.s.cfg.WriteTimeout)
}

// drain interrupts the connections that are idle; the others end by
// themselves.
func (g *goroutines) drain(ctx context.Context) error {
	g.interrupt()
	select {
	case <-g.s.empty:
		return nil
	case <-ctx.Done():
		err := g.s.cut(ctx)
		g.cut()
		return err
	}
}

func (g *goroutines) interrupt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.talks {
		switch t.phase.Load() {
		case idle:
			t.nc.SetReadDeadline(time.Unix(1, 0))
		case fresh:
			t.nc.SetReadDeadline(time.Now().Add(freshGrace))
		}
	}
}

// cut closes what is left. Its goroutines end as soon as they notice; those
// that wait for the counter, when it settles them.
func (g *goroutines) cut() {
	close(g.stopped)
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.talks {
		t.nc.Close()
	}
}

// readOff half-closes nc and throws away what still comes, for a short time or
// until the client closes too (RFC 9112 9.6). A client that is still taking
// what was written has longer, as long as it takes some of it within timeout:
// closing with bytes unread would take its answers back.
func readOff(nc net.Conn, timeout time.Duration) {
	hc, ok := nc.(interface{ CloseWrite() error })
	if !ok || hc.CloseWrite() != nil {
		return
	}
	left, since := queued(nc), time.Now()
	for {
		nc.SetReadDeadline(time.Now().Add(lingerTime))
		_, err := io.Copy(io.Discard, nc)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		n := queued(nc)
		if n < left {
			left, since = n, time.Now()
		}
		if n == 0 || time.Since(since) > timeout {
			return
		}
	}
}

// queued is how many written bytes the client has not taken yet.
func queued(nc net.Conn) (n int) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	if raw, err := sc.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { n = unsent(int(fd)) })
	}
	return n
}

// moved is a connection on its way from an event loop to a goroutine. The loop
// has session and late until it closes settled, the goroutine from then on.
type moved struct {
	session
	in      []byte        // what has been read and not taken
	out     []byte        // rendered, not yet written
	late    []byte        // rendered by the loop since
	settled chan struct{} // closed when the loop owes nothing any more
}

// adopt takes over a connection from an event loop.
func (g *goroutines) adopt(nc net.Conn, m *moved) {
	t := g.add(nc)
	t.phase.Store(working)
	go t.run(m)
}

// deliver writes what the loop owed. It returns false when the connection has
// ended.
func (t *talk) deliver(m *moved) bool {
	// Nothing may be written, not even no bytes, to what the loop has half-closed.
	if len(m.out) > 0 && t.write(m.out) != nil {
		return false
	}
	m.out = nil // what is owed may take long
	select {
	case <-m.settled:
	case <-t.g.stopped:
		return false
	}
	if len(m.late) > 0 && t.write(m.late) != nil {
		return false
	}
	t.session, t.in = m.session, m.in
	if t.done {
		t.finish()
		return false
	}
	return true
}
