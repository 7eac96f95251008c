package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
)

// goroutines is the model with a goroutine per connection. The reactor uses it
// too, for the connections that an event loop cannot serve. Here a write that
// blocks is the backpressure.
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
	g.scratch.New = func() any { return newScratch(s) }
	return g
}

// scratch is what a connection needs only while it works on a read; an idle
// one has none.
type scratch struct {
	codec   *codec
	answers []answer
	out     []byte
	batch   counter.Batch
	settled chan struct{}
}

func newScratch(s *Server) *scratch {
	w := &scratch{codec: s.newCodec(), settled: make(chan struct{}, 1)}
	w.batch.Done = func(*counter.Batch) { w.settled <- struct{}{} }
	return w
}

// What a talk is doing, for a drain to know whom it may interrupt.
const (
	unbegun int32 = iota // waits for the first byte
	quiet                // waits between requests
	midway               // waits for the rest of a request
	working              // does not wait for a request
	parting              // is half-closed by us, and read off
)

// talk is a connection and the goroutine that serves it.
type talk struct {
	g  *goroutines
	nc net.Conn
	session
	in         []byte // what has been read and not taken
	tally      *tally
	generation generation

	phase   atomic.Int32
	lingers atomic.Bool   // it has taken all its answers, and the server was told
	timed   bool          // the request we wait for has its deadline
	readBy  time.Duration // the deadline that is set, by the server's clock
	writeBy time.Duration
	last    bool // the client left its answers unread: the next is its last
}

func (g *goroutines) serve(nc net.Conn, gen generation) {
	t := g.add(nc, gen)
	t.awaitFirst()
	go t.run(nil)
}

// awaitFirst sets the deadline of the first request.
func (t *talk) awaitFirst() {
	t.timed = true
	t.readDeadline(t.g.s.clock.now() + t.g.s.cfg.ReadTimeout)
}

func (g *goroutines) add(nc net.Conn, gen generation) *talk {
	t := &talk{g: g, nc: nc, generation: gen, tally: g.s.stats.shard(int(g.nth.Add(1)))}
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
	delete(t.g.talks, t) // from here on nobody else tells that it lingers
	if len(t.g.talks) == 0 {
		t.g.talks = make(map[*talk]struct{}) // a map stays as large as it ever was
	}
	t.g.mu.Unlock()
	t.g.s.release(t.generation, t.lingers.Load())
}

// run serves the connection to its end. m is nil unless an event loop has served
// it before.
func (t *talk) run(m *moved) {
	defer t.remove()
	if m != nil && !t.finish(m) {
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
		w.batch.Reset()
		rest, w.answers = t.gather(w.codec, rest, w.answers[:0], room, &w.batch)
		if len(w.answers) == 0 {
			break
		}
		if w.answers[len(w.answers)-1].kind != proceed {
			t.timed = false
		}
		if asks(w.answers) && !t.g.s.counter.Commit(&w.batch) {
			<-w.settled
		}
		// A drain may have begun while the store worked.
		if t.g.s.draining.Load() {
			t.drain(w.answers, rest)
		}
		if t.last {
			t.endWith(w.answers)
		}
		w.out = t.g.s.render(w.out[:0], w.answers, &w.batch, t.tally)
		if t.write(w.out) != nil {
			return false
		}
		if t.ended {
			t.halfClose()
			return false
		}
	}
	t.in = t.in[:copy(t.in, rest)]
	return true
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
		if t.phase.Load() == quiet && t.g.s.draining.Load() && !t.look() {
			t.halfClose()
			return false
		}
		if t.phase.Load() == working {
			return true // look has found something
		}
		n, err := t.nc.Read(t.in[len(t.in):cap(t.in)])
		if n > 0 {
			t.phase.Store(working)
			t.in = t.in[:len(t.in)+n]
			return true
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		// A request may have come just now, or while the process stood still.
		if t.look() {
			return true
		}
		if t.expired() {
			return false
		}
	}
}

// look takes what has arrived, without waiting and whatever the deadline. It
// returns false if there is nothing.
func (t *talk) look() bool {
	n := arrived(t.nc, t.in[len(t.in):cap(t.in)])
	if n <= 0 {
		return false
	}
	t.phase.Store(working)
	t.in = t.in[:len(t.in)+n]
	return true
}

// arrived reads what lies in the socket, without waiting and whatever the deadline.
func arrived(nc net.Conn, b []byte) (n int) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	if raw, err := sc.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), b) })
	}
	return n
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
		t.phase.Store(unbegun)
		if t.g.s.draining.Load() && t.readBy > now+t.g.s.grace() {
			t.readDeadline(now + t.g.s.grace())
		}
	default:
		// A deadline that is a little late saves setting a timer for each
		// request.
		if due := now + cfg.IdleTimeout; t.readBy < due || t.readBy > due+cfg.IdleTimeout/16+tick {
			t.readDeadline(due + cfg.IdleTimeout/16)
		}
		t.phase.Store(quiet)
	}
}

func (t *talk) readDeadline(due time.Duration) {
	t.readBy = due
	t.nc.SetReadDeadline(t.g.s.clock.deadline(due))
}

// expired acts on a read deadline that has passed. It returns false when there
// is more to wait for.
func (t *talk) expired() bool {
	phase := t.phase.Load()
	if t.g.s.clock.now() < t.readBy && (phase == midway || !t.g.s.draining.Load()) {
		// The process stood still, or a drain took us for idle just when a request
		// began.
		t.readDeadline(t.readBy)
		return false
	}
	if phase == midway {
		last := []answer{t.refuse(errTimeout)}
		if t.write(t.g.s.render(nil, last, nil, t.tally)) != nil {
			return true
		}
	}
	t.halfClose()
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
		b, t.writeBy = b[n:], 0
		now := t.g.s.clock.now()
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
		t.nc.SetWriteDeadline(t.g.s.clock.deadline(t.writeBy))
	}
}

// halfClose half-closes the connection and reads it off. The caller closes it.
func (t *talk) halfClose() {
	t.phase.Store(working)
	t.g.s.part(t.nc, func() {
		t.phase.Store(parting)
		t.linger()
	})
}

// part half-closes a connection, calls linger, and reads it off, so that what was
// written arrives. The caller closes it.
func (s *Server) part(nc net.Conn, linger func()) {
	if halfClose(nc) != nil {
		return
	}
	linger()
	left, since := queued(nc), s.clock.now()
	for readOff(nc, time.Now().Add(longestReadOff), &s.draining) {
		// A client that is still taking what was written has longer: closing with
		// bytes unread would take its answers back.
		n := queued(nc)
		if n < left {
			left, since = n, s.clock.now()
		}
		if n == 0 || s.clock.now()-since > s.cfg.WriteTimeout {
			return
		}
	}
}

func halfClose(nc net.Conn) error {
	hc, ok := nc.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return hc.CloseWrite()
}

// linger tells the server once that a half-closed connection has taken all its
// answers.
func (t *talk) linger() {
	if queued(t.nc) == 0 && t.lingers.CompareAndSwap(false, true) {
		t.g.s.linger()
	}
}

// readOff throws away what comes from a half-closed connection until it closes
// too or is silent, or until end, which in a drain is soon (RFC 9112 9.6). It
// returns false if the client has closed.
func readOff(nc net.Conn, end time.Time, draining *atomic.Bool) bool {
	buf := make([]byte, 4<<10)
	for hurried := false; ; {
		now := time.Now()
		by := now.Add(silence)
		if !hurried && draining.Load() {
			hurried = true
			end = earlier(end, by)
		}
		if !now.Before(end) {
			return true
		}
		nc.SetReadDeadline(earlier(end, by))
		_, err := nc.Read(buf)
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || arrived(nc, buf) <= 0) {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
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

// waits reports whether a client has sent something that is not read yet.
func waits(nc net.Conn) (yes bool) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	if raw, err := sc.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { yes = unread(int(fd)) })
	}
	return yes
}

// unread reports whether bytes lie in a socket that doesn't block.
func unread(fd int) bool {
	n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK)
	return err == nil && n > 0
}

// retire interrupts the connections that wait for a request; the others end with
// their next answer.
func (g *goroutines) retire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.talks {
		switch t.phase.Load() {
		case quiet:
			t.nc.SetReadDeadline(time.Unix(1, 0))
		case unbegun:
			t.nc.SetReadDeadline(time.Now().Add(g.s.grace()))
		}
	}
}

// settle looks from time to time whether those that are read off have taken their
// answers by now.
func (g *goroutines) settle(ctx context.Context) {
	look := time.NewTicker(tick)
	defer look.Stop()
	for {
		select {
		case <-g.s.answered:
			return
		case <-ctx.Done():
			return
		case <-look.C:
		}
		g.mu.Lock()
		for t := range g.talks {
			if t.phase.Load() == parting {
				t.linger()
			}
		}
		g.mu.Unlock()
	}
}

func (g *goroutines) close(ctx context.Context) {
	select {
	case <-g.s.empty:
	case <-ctx.Done():
	}
	g.cut()
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
