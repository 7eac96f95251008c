package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// reactor is the model with event loops. gnet waits for events and reads; the
// rest is ours, for gnet buffers without bound in both directions, drops unsent
// output when it closes, and closes as soon as the client half-closes:
//
//   - A loop writes to the socket itself. A connection whose socket takes no
//     more leaves the loop: a goroutine takes over its descriptor, and its
//     blocking write is the backpressure. So nothing of ours ever lies in
//     gnet's buffers.
//   - A client that has half-closed while an answer is still to come goes the
//     same way.
//   - Nothing is written to a connection that is gone: its descriptor number
//     may be another client's by then.
type reactor struct {
	gnet.BuiltinEventEngine
	s       *Server
	loops   []*loop
	slow    *goroutines // serves the connections that left their loop
	instant bool

	enrolling sync.WaitGroup
}

func newReactor(s *Server) (*reactor, error) {
	r := &reactor{s: s, slow: newGoroutines(s), instant: s.counter.Instant()}
	for i := range s.cfg.Loops {
		l := newLoop(r, i)
		if err := l.start(); err != nil {
			r.stop()
			return nil, err
		}
		r.loops = append(r.loops, l)
	}
	sweep := r.sweep
	s.clock.onTick.Store(&sweep)
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

// serve gives the connection to the loop that has the fewest. EnrollContext
// waits for the loop's next turn, so it has a goroutine: the acceptor may have
// many more connections to hand over.
func (r *reactor) serve(nc net.Conn) {
	l := r.loops[0]
	for _, other := range r.loops[1:] {
		if other.conns.Load() < l.conns.Load() {
			l = other
		}
	}
	l.conns.Add(1)
	r.enrolling.Add(1)
	go func() {
		defer r.enrolling.Done()
		c := &conn{loop: l}
		_, err := l.client.EnrollContext(nc, c)
		if err == nil && c.gc == nil {
			err = errNotOpened
		}
		if err != nil {
			r.s.cfg.Log.Warn("connection lost before it reached its loop", "err", err)
			l.conns.Add(-1)
			r.s.release()
		}
	}()
}

// errNotOpened: gnet says nothing when epoll or kqueue refuses a connection, and
// OnOpen and OnClose are not called.
var errNotOpened = errors.New("it cannot be polled")

func (r *reactor) sweep() {
	for _, l := range r.loops {
		l.mu.Lock()
		if l.conns.Load() > 0 && !l.stopped {
			l.execute(l.sweepTask)
		}
		l.mu.Unlock()
	}
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
	c.loop.open(c)
	return nil, gnet.None
}

// OnTraffic is called on the connection's loop with what one read brought.
func (r *reactor) OnTraffic(gc gnet.Conn) gnet.Action {
	c := gc.Context().(*conn)
	data, _ := gc.Next(-1)
	if c.state == attached {
		c.loop.read(c, data)
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
	c.loop.closed(c, err)
	return gnet.None
}

func (r *reactor) drain(ctx context.Context) error {
	r.enrolling.Wait()
	for _, l := range r.loops {
		l.execute(l.drainTask)
	}
	r.slow.interrupt()
	var err error
	select {
	case <-r.s.empty:
	case <-ctx.Done():
		err = r.s.cut(ctx)
		r.slow.cut()
	}
	r.s.clock.onTick.Store(nil)
	r.stop()
	return err
}

// Where a connection stands with its loop.
const (
	attached  = iota // the loop serves it
	stalled          // its socket takes no more; it is about to leave
	lingering        // half-closed by us, read off until it ends
	gone             // closed, or served by a goroutine: not ours to touch
)

// conn is a connection that an event loop serves. Only its loop touches it.
// An idle one holds no buffer.
type conn struct {
	links
	session
	gc    gnet.Conn
	loop  *loop
	in    []byte // what has been read and not taken
	out   []byte // of a stalled one: rendered, not yet written
	moved *moved // of one that left and is owed answers: where they go
	owed  int32  // answers that wait for their batch
	state uint8
	timed bool // the request we wait for is in its list already
}

// loop is what we keep beside one of gnet's event loops. Only that loop
// touches it, except for what is said to be shared.
type loop struct {
	r      *reactor
	client *gnet.Client   // "client" since it accepts nothing: our acceptor does
	el     gnet.EventLoop // client's only one; nil until its first connection, set under mu
	tally  *tally
	parser *httpparse.Parser

	answers []answer // of the read event at hand
	out     []byte
	now     counter.Batch // settles a read event's answers on the spot

	gathering *batch   // what this turn of the loop brought
	spare     []*batch // settled, to be used again
	spareRoom int      // of all spare batches, in answers

	// Every connection is in one of these.
	reading   list // waits for a request, or the rest of one
	idling    list // between requests
	waiting   list // is owed answers
	ending    list // lingering
	newcomers list // fresh when the drain began

	submitTask, settleTask, sweepTask, drainTask gnet.Runnable

	conns atomic.Int64 // shared; given to this loop, and not gone

	mu      sync.Mutex // for what is shared with the counter's goroutine
	settled []*batch
	stopped bool // the event loop may have ended: it cannot be woken
}

// batch is what one turn of a loop asks of the counter, and to whom the answers
// go.
type batch struct {
	counter.Batch
	answers []answer
	runs    []run
}

// spareAnswers is for how many answers the batches that a loop keeps to be used
// again may have room, all together.
const spareAnswers = 32 << 10

// run is a stretch of a batch's answers that go to one connection.
type run struct {
	c *conn
	n int
}

func newLoop(r *reactor, nth int) *loop {
	l := &loop{
		r:       r,
		tally:   r.s.stats.shard(nth),
		parser:  httpparse.NewParser(r.s.limits),
		reading: list{patience: r.s.cfg.ReadTimeout},
		idling:  list{patience: r.s.cfg.IdleTimeout},
		ending:  list{patience: lingerTime},

		newcomers: list{patience: freshGrace},
	}
	l.submitTask = task(l.submit)
	l.settleTask = task(l.settle)
	l.sweepTask = task(l.sweep)
	l.drainTask = task(l.drain)
	return l
}

func task(f func()) gnet.Runnable {
	return gnet.RunnableFunc(func(context.Context) error { f(); return nil })
}

// execute has the loop run t after the events at hand. A loop that has had no
// connection has nothing to do.
func (l *loop) execute(t gnet.Runnable) {
	if l.el == nil {
		return
	}
	if err := l.el.Execute(context.Background(), t); err != nil {
		l.r.s.cfg.Log.Debug("task for an event loop that has ended", "err", err)
	}
}

func (l *loop) open(c *conn) {
	c.timed = true
	l.reading.put(c, l.r.s.clock.now())
}

// read takes what one read brought.
func (l *loop) read(c *conn, data []byte) {
	if c.done {
		return // its last answer is on its way: what follows is read off
	}
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}
	l.keep(c, l.answer(c, data))
	l.settleDown(c)
}

// keep keeps what was not taken until more comes: data belongs to gnet, or is
// c.in itself.
func (l *loop) keep(c *conn, rest []byte) {
	switch {
	case len(rest) == 0 || c.done:
		c.in = nil
	case len(c.in) > 0:
		c.in = c.in[:copy(c.in, rest)]
	default:
		c.in = append(c.in, rest...)
	}
}

// answer takes requests from data and answers them, on the spot or by way of a
// batch. It returns what it did not take.
func (l *loop) answer(c *conn, data []byte) []byte {
	for c.state == attached {
		var hits int32
		data, l.answers, hits = c.gather(l.parser, data, l.answers[:0], l.room(c), l.gathered())
		if len(l.answers) == 0 {
			break
		}
		if l.answers[len(l.answers)-1].kind != proceed {
			c.timed = false
		}
		switch ask := asks(l.answers); {
		case !ask && c.owed == 0:
			l.reply(c, l.answers, nil, data)
		case l.r.instant:
			l.now.Hits = int64(hits)
			l.r.s.counter.Submit(&l.now)
			l.reply(c, l.answers, &l.now, data)
		default:
			l.queue(c, hits)
		}
	}
	return data
}

// room is how many more answers c may be owed. In a drain a connection must come
// to the point at which nothing is owed: there it ends.
func (l *loop) room(c *conn) int {
	if c.owed > 0 && l.r.s.draining.Load() {
		return 0
	}
	return burst - int(c.owed)
}

// reply renders answers and writes them. rest is what the connection has sent
// beyond their requests.
func (l *loop) reply(c *conn, answers []answer, b *counter.Batch, rest []byte) {
	if c.owed == 0 && l.r.s.draining.Load() {
		c.windUp(answers, rest)
	}
	l.out = l.out[:0]
	for _, a := range answers {
		l.out = appendAnswer(l.out, l.r.s.clock, a, b)
	}
	l.r.s.stats.answered(l.tally, answers, b)
	l.write(c, l.out)
}

// write writes out as far as the socket takes it.
func (l *loop) write(c *conn, out []byte) {
	for len(out) > 0 {
		n, err := unix.Write(c.gc.Fd(), out)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			c.out = append([]byte(nil), out...)
			c.state = stalled
			return
		case err != nil:
			l.close(c)
			return
		default:
			out = out[n:]
		}
	}
}

// queue puts the answers of the read event at hand into the batch that this
// turn of the loop gathers. It is submitted when the turn ends.
func (l *loop) queue(c *conn, hits int32) {
	if l.gathering == nil {
		l.gathering = l.takeBatch()
		l.execute(l.submitTask)
	}
	b := l.gathering
	b.Hits = int64(hits)
	b.answers = append(b.answers, l.answers...)
	b.runs = append(b.runs, run{c, len(l.answers)})
	c.owed += int32(len(l.answers))
}

// gathered is how many hits the gathered batch holds so far.
func (l *loop) gathered() int32 {
	if l.gathering == nil {
		return 0
	}
	return int32(l.gathering.Hits)
}

func (l *loop) takeBatch() *batch {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		l.spareRoom -= cap(b.answers)
		return b
	}
	b := &batch{}
	b.Done = func(*counter.Batch) { l.done(b) }
	return b
}

// submit hands the gathered batch to the counter.
func (l *loop) submit() {
	b := l.gathering
	if b == nil {
		return
	}
	l.gathering = nil
	if l.r.s.counter.Submit(&b.Batch) {
		l.complete(b)
	}
}

// done is called by the counter's goroutine when b is settled. However many
// batches it settles at once, the loop is woken once.
func (l *loop) done(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = append(l.settled, b)
	if len(l.settled) == 1 && !l.stopped {
		l.execute(l.settleTask)
	}
}

// settle answers what the counter has settled.
func (l *loop) settle() {
	l.mu.Lock()
	settled := l.settled
	l.settled = nil
	l.mu.Unlock()
	for _, b := range settled {
		l.complete(b)
	}
	// Requests that had to wait for room were taken meanwhile.
	l.submit()
}

// complete answers the connections of a settled batch.
func (l *loop) complete(b *batch) {
	from := 0
	for _, r := range b.runs {
		answers := b.answers[from : from+r.n]
		from += r.n
		l.deliver(r.c, answers, &b.Batch)
	}
	if l.spareRoom+cap(b.answers) > spareAnswers {
		return // an attack made it large, or so many: let go of its memory
	}
	l.spareRoom += cap(b.answers)
	clear(b.runs)
	b.answers, b.runs, b.Hits = b.answers[:0], b.runs[:0], 0
	l.spare = append(l.spare, b)
}

// deliver answers one connection, wherever it is by now, and takes what it
// could not take before.
func (l *loop) deliver(c *conn, answers []answer, b *counter.Batch) {
	c.owed -= int32(len(answers))
	switch c.state {
	case attached:
		l.reply(c, answers, b, c.in)
		if len(c.in) > 0 {
			l.keep(c, l.answer(c, c.in))
		}
		l.settleDown(c)
	case gone:
		if c.moved != nil {
			l.deliverLate(c, answers, b)
		}
	}
}

// deliverLate gives answers to the goroutine that serves c now.
func (l *loop) deliverLate(c *conn, answers []answer, b *counter.Batch) {
	m := c.moved
	if c.owed == 0 && l.r.s.draining.Load() {
		m.windUp(answers, m.in)
	}
	for _, a := range answers {
		m.late = appendAnswer(m.late, l.r.s.clock, a, b)
	}
	l.r.s.stats.answered(l.tally, answers, b)
	if c.owed == 0 {
		close(m.settled)
		c.moved = nil
	}
}

// settleDown puts a connection where it belongs after an event: what it now
// waits for decides how long it may.
func (l *loop) settleDown(c *conn) {
	now := l.r.s.clock.now()
	switch {
	case c.state == stalled:
		l.leave(c)
		l.close(c)
	case c.state != attached:
	case c.done && c.owed == 0:
		l.finish(c)
	case c.done:
		l.waiting.put(c, now)
	case l.room(c) == 0 && len(c.in) > readSize:
		// It sends on although it is owed as much as we allow, and a loop
		// cannot choose not to read.
		l.leave(c)
		l.close(c)
	case l.room(c) == 0:
		l.waiting.put(c, now)
	case !c.between(c.in):
		if !c.timed || c.list != &l.reading {
			c.timed = true
			l.reading.put(c, now)
		}
	case c.owed > 0:
		c.timed = false
		l.waiting.put(c, now)
	case c.timed && l.r.s.draining.Load():
		if c.list != &l.newcomers {
			l.newcomers.put(c, now)
		}
	case c.timed: // an empty line is not yet a request: its time runs on
	case l.r.s.draining.Load():
		l.finish(c)
	default:
		l.idling.put(c, now)
	}
}

// leave hands a connection over to a goroutine, with all that it has sent and
// is owed. gnet's own descriptor of it is still to be closed.
func (l *loop) leave(c *conn) {
	nc, err := duplicate(c.gc)
	if err != nil {
		l.r.s.cfg.Log.Warn("connection cut: it cannot leave its loop", "err", err)
		l.forget(c)
		l.r.s.release()
		return
	}
	m := &moved{session: c.session, in: c.in, out: c.out, settled: make(chan struct{})}
	if c.owed == 0 {
		close(m.settled)
	} else {
		c.moved = m
	}
	l.r.slow.adopt(nc, m)
	l.forget(c)
}

// duplicate makes a net.Conn of the same socket.
func duplicate(gc gnet.Conn) (net.Conn, error) {
	fd, err := gc.Dup()
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}

// finish half-closes a connection that is owed nothing, and reads it off until
// the client closes too or time is up (RFC 9112 9.6).
func (l *loop) finish(c *conn) {
	if unix.Shutdown(c.gc.Fd(), unix.SHUT_WR) != nil {
		l.close(c)
		return
	}
	c.state, c.in, c.done = lingering, nil, true
	l.ending.put(c, l.r.s.clock.now())
}

// close closes a connection at once. gnet calls OnClose before it returns.
func (l *loop) close(c *conn) {
	l.el.Close(c.gc)
}

// closed is called when gnet closes a connection, for whatever reason.
func (l *loop) closed(c *conn, err error) {
	switch {
	case c.state == gone:
	case c.state == attached && c.owed > 0 && errors.Is(err, io.EOF):
		// It has said all it wants to, and is still owed answers.
		l.leave(c)
	default:
		l.forget(c)
		l.r.s.release()
	}
}

// forget ends what the loop has to do with c, but for answers of batches that
// are still on their way.
func (l *loop) forget(c *conn) {
	c.remove()
	c.state, c.in, c.out = gone, nil, nil
	l.conns.Add(-1)
}

// sweep ends the patience with connections that are late.
func (l *loop) sweep() {
	now := l.r.s.clock.now()
	for c := l.ending.late(now); c != nil; c = l.ending.late(now) {
		if unsent(c.gc.Fd()) > 0 {
			l.leave(c) // a goroutine has the time to see it through
		}
		l.close(c)
	}
	for c := l.reading.late(now); c != nil; c = l.reading.late(now) {
		l.slow(c)
	}
	for c := l.idling.late(now); c != nil; c = l.idling.late(now) {
		l.finish(c)
	}
	for c := l.newcomers.late(now); c != nil; c = l.newcomers.late(now) {
		l.finish(c)
	}
}

// slow ends a connection whose request did not arrive in time.
func (l *loop) slow(c *conn) {
	if c.between(c.in) {
		l.finish(c) // it never began: there is nothing to answer
		return
	}
	l.answers = append(l.answers[:0], c.session.slow(c.in))
	if c.owed > 0 {
		l.queue(c, l.gathered())
	} else {
		l.reply(c, l.answers, nil, nil)
	}
	l.settleDown(c)
}

// drain lets go of every connection that is owed nothing.
func (l *loop) drain() {
	var quiet []*conn
	for c := l.reading.head; c != nil; c = c.next {
		if c.between(c.in) {
			quiet = append(quiet, c)
		}
	}
	for c := l.idling.head; c != nil; c = c.next {
		quiet = append(quiet, c)
	}
	buf := make([]byte, readSize)
	for _, c := range quiet {
		l.wind(c, buf)
	}
}

// wind ends a connection between requests, after one more look: a request may
// have arrived that its loop has not seen yet. A fresh connection has a little
// longer, for its first request must not be cut.
func (l *loop) wind(c *conn, buf []byte) {
	n, err := unix.Read(c.gc.Fd(), buf)
	switch {
	case n > 0:
		l.read(c, buf[:n])
	case err == unix.EAGAIN:
		l.settleDown(c)
	default:
		l.finish(c)
	}
}
