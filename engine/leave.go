package engine

import (
	"math"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
)

// A connection leaves its event loop when a goroutine has to serve it from there
// on: its socket takes no more, its client floods it or has half-closed while an
// answer is owed, or the loop itself waits for a disk that doesn't answer.
//
// The loop duplicates the descriptor and gives it away with a moved; its own it
// closes. What the loop still owes it renders into moved.late, and closes
// moved.settled when that was all. From then on the moved is the goroutine's.

// moved is a connection on its way from an event loop to a goroutine. The loop
// has session and late until it closes settled, the goroutine from then on.
type moved struct {
	session
	in         []byte        // what has been read and not taken
	out        []byte        // rendered, not yet written
	late       []byte        // rendered by the loop since
	settled    chan struct{} // closed when the loop owes nothing any more
	generation generation
	lingers    bool // the server was told
	fresh      bool // it waits for its first request
}

// leave hands a connection over to a goroutine, with all that it has sent and
// is owed; if its socket takes no more it is parked first. gnet's own descriptor
// of it is still to be closed. It returns false if there is no second descriptor.
func (l *loop) leave(c *conn) bool {
	m := &moved{
		session:    c.session,
		in:         c.in,
		out:        c.out,
		settled:    make(chan struct{}),
		generation: c.generation,
		lingers:    c.lingers,
		fresh:      c.state == fresh || c.state == graced,
	}
	fd, err := c.gc.Dup()
	var nc net.Conn
	if err == nil && (len(c.out) == 0 || !l.r.parking.put(fd, m)) {
		nc, err = netConn(fd)
	}
	if err != nil {
		l.r.s.cutLeaving(err)
		return false
	}
	if c.owed == 0 {
		close(m.settled)
	} else {
		c.moved = m
	}
	l.forget(c)
	if nc != nil {
		l.r.others.adopt(nc, m, false)
	}
	return true
}

// netConn makes a net.Conn of a socket's descriptor, which it closes.
func netConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}

func (s *Server) cutLeaving(err error) {
	s.cfg.Log.Warn("connection cut: it cannot leave its loop", "err", err)
}

// adopt serves a connection that has left its loop. unread says that its client has
// left its answers unread.
func (g *goroutines) adopt(nc net.Conn, m *moved, unread bool) {
	t := g.add(nc, m.generation)
	t.lingers.Store(m.lingers)
	t.last = unread
	t.phase.Store(working)
	if m.fresh {
		t.awaitFirst()
	}
	go t.run(m)
}

// deliverLate gives answers to the goroutine that serves c now.
func (l *loop) deliverLate(c *conn, answers []answer, b *counter.Batch) {
	m := c.moved
	if c.owed == 0 && l.r.s.draining.Load() {
		m.drain(answers, m.in)
	}
	m.late = l.r.s.render(m.late, answers, b, l.tally)
	if c.owed == 0 {
		close(m.settled)
		c.moved = nil
	}
}

// finish writes what the loop owed. It returns false when the connection has
// ended.
func (t *talk) finish(m *moved) bool {
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
	if t.ended {
		t.halfClose()
		return false
	}
	return true
}

// Whose turn it is: a loop that commits to a disk itself may have to wait for it,
// and nothing bounds that. So meanwhile the loop is nobody's, and if it takes too
// long, the clock's goroutine takes all of its connections away:
//
//	           commit                 relieve
//	running ────────────▶ committing ─────────▶ relieved
//	   ▲                       │                    │
//	   └───────────────────────┴────────────────────┘
//	                    the disk answers
//
// While it is relieved, what is the loop's belongs to whoever holds its mu.
const (
	running    int32 = iota
	committing       // the loop waits for the disk
	relieved         // it still does, and has no connections
)

// patient is how long a loop may wait for the disk. It is no less than the clock goes
// in one step: if the whole process stood still, the disk is not to blame.
const patient = 100 * time.Millisecond

// commit hands over a batch, and commits it if nobody else does.
func (l *loop) commit(b *counter.Batch) (settled bool) {
	l.since.Store(int64(l.r.s.clock.now()))
	l.turn.Store(committing)
	settled = l.r.s.counter.Commit(b)
	if !l.turn.CompareAndSwap(committing, running) {
		l.comeBack()
	}
	return settled
}

// relieve takes the connections of a loop that has waited too long.
func (l *loop) relieve() {
	if l.turn.Load() != committing || l.r.s.clock.now()-time.Duration(l.since.Load()) <= patient {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.turn.CompareAndSwap(committing, relieved) {
		return
	}
	s := l.r.s
	s.cfg.Log.Warn("the disk doesn't answer; goroutines take over an event loop's connections")
	l.doubled = s.double(int(l.conns.Load()))
	room := l.doubled
	for c, e := range l.entering {
		delete(l.entering, c)
		e.leave() // or nobody could come until the disk answers
		l.conns.Add(-1)
		if room--; room < 0 || !l.takeOver(c, e.nc) {
			l.told = append(l.told, c.generation)
			s.turnAway(e.nc)
		}
	}
	for i := range l.lists {
		for c := l.lists[i].head; c != nil; c = l.lists[i].head {
			l.left = append(l.left, c.gc)
			if room--; room < 0 || !l.leave(c) {
				l.told = append(l.told, c.generation)
				l.turnAway(c)
			}
		}
	}
	l.completeRelieved()
}

// completeRelieved answers what is settled while the loop is relieved. The caller
// holds mu.
func (l *loop) completeRelieved() {
	for b := l.unqueue(); b != nil; b = l.unqueue() {
		l.complete(b)
	}
}

// takeOver serves a connection that was on its way to the loop. It returns false if
// there is no descriptor for that.
func (l *loop) takeOver(c *conn, nc net.Conn) bool {
	f, err := nc.(*net.TCPConn).File() // gnet closes nc itself
	if err == nil {
		nc, err = net.FileConn(f)
		f.Close()
	}
	if err != nil {
		l.r.s.cutLeaving(err)
		return false
	}
	l.r.others.serve(nc, c.generation)
	return true
}

// turnAway tells a connection that can't leave 503, unless it has asked nothing. It
// is closed when the disk answers, and counts as open until then.
func (l *loop) turnAway(c *conn) {
	s := l.r.s
	asked := c.owed > 0 || !c.between(c.in) || unread(c.gc.Fd())
	if asked && c.state.live() && len(c.out) == 0 {
		_, _ = unix.Write(c.gc.Fd(), s.sorry()) // what doesn't fit is lost
	}
	_ = unix.Shutdown(c.gc.Fd(), unix.SHUT_WR)
	l.forget(c)
	if !c.lingers {
		s.linger()
	}
}

// turnAway does so with one that hasn't reached its loop.
func (s *Server) turnAway(nc net.Conn) {
	_ = nc.SetWriteDeadline(time.Now().Add(tick))
	_, _ = nc.Write(s.sorry())
	_ = halfClose(nc)
	s.linger()
}

func (s *Server) sorry() []byte {
	return s.appendError(nil, errTooManyConns.Status, errTooManyConns.Reason, last)
}

// double takes descriptors for n connections of a loop that is to be relieved, which
// each have two until the disk answers; or for as many as there may be.
func (s *Server) double(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(min(n, s.spare()), 0)
	s.doubled += n
	return n
}

// spare is how many descriptors connections may have beyond those that they have.
func (s *Server) spare() int {
	if s.cfg.MaxDescriptors == 0 {
		return math.MaxInt
	}
	return s.cfg.MaxDescriptors - s.open[before] - s.open[later] - s.doubled
}

// comeBack is called when the disk has answered a loop that was relieved. It
// closes the descriptors of the connections that were taken away, before gnet
// could read from them.
func (l *loop) comeBack() {
	l.mu.Lock()
	left, told := l.left, l.told
	l.left, l.told = nil, nil
	l.turn.Store(running)
	l.mu.Unlock()
	for _, gc := range left {
		l.el.Close(gc)
	}
	s := l.r.s
	s.mu.Lock()
	s.doubled -= l.doubled // before there is room for others
	s.mu.Unlock()
	for _, g := range told {
		s.release(g, true)
	}
}
