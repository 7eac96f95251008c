package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
)

// conn is a connection that an event loop serves. Only its loop touches it.
// An idle one holds no buffer.
type conn struct {
	links
	session
	gc         gnet.Conn
	loop       *loop
	in         []byte        // what has been read and not taken
	out        []byte        // rendered, and not taken by the socket
	moved      *moved        // of one that left and is owed answers: where they go
	halfClosed time.Duration // when, of one that lingers
	owed       int32         // answers that wait for their batch
	state      state
	generation generation
	lingers    bool // the server was told
}

// loop is what we keep beside one of gnet's event loops. Only that loop touches
// it, except for what is said to be shared.
type loop struct {
	r      *reactor
	client *gnet.Client   // "client" since it accepts nothing: our acceptor does
	el     gnet.EventLoop // client's only one; nil until its first connection, set under mu
	tally  *tally
	codec  *codec

	answers []answer // of the read event at hand
	out     []byte
	now     counter.Batch // of the read event at hand, where the store is instant
	looked  []byte        // what look has read; nil: never yet

	gathering *batch   // what this turn of the loop brought; nil: nothing yet
	submits   bool     // a task will submit it
	spare     []*batch // settled, to be used again
	spareSize int      // of all of them, in bytes

	lists [listed]list // every connection is in the one of its state

	submitTask, settleTask, sweepTask, drainTask gnet.Runnable

	conns atomic.Int64 // shared: given to this loop, and not gone
	turn  atomic.Int32 // shared: see leave.go
	since atomic.Int64 // shared: when the commit at hand began, by the server's clock

	mu       sync.Mutex         // for what follows, which is shared
	first    *batch             // submitted and not completed, in order
	last     *batch             // of these
	woken    bool               // a task will complete those that are settled
	entering map[*conn]*entrant // on their way to this loop
	left     []gnet.Conn        // of connections taken over while the loop couldn't close them
	told     []generation       // of those that couldn't be, and were told so
	doubled  int                // descriptors taken for the others
	stopped  bool               // the event loop may have ended: it cannot be woken
}

// batch is what one turn of a loop asks of the counter, and to whom the answers
// go.
type batch struct {
	counter.Batch
	answers []answer
	shares  []share
	next    *batch // submitted after it
	settled bool
}

// share is the answers of a batch that go to one connection.
type share struct {
	c *conn
	n int
}

// mostSpare is how large the batches that a loop keeps may be, all together, in
// bytes.
const mostSpare = 1 << 20

func (b *batch) size() int { return b.Size() + 24*cap(b.answers) + 16*cap(b.shares) }

func newLoop(r *reactor, nth int) *loop {
	l := &loop{
		r:        r,
		tally:    r.s.stats.shard(nth),
		codec:    r.s.newCodec(),
		entering: make(map[*conn]*entrant),
	}
	l.lists[fresh].patience = r.s.cfg.ReadTimeout
	l.lists[idle].patience = r.s.cfg.IdleTimeout
	l.lists[reading].patience = r.s.cfg.ReadTimeout
	l.lists[lingering].patience = silence
	l.submitTask = task(func() { l.submits = false; l.submit() })
	l.settleTask = task(l.settle)
	l.sweepTask = task(l.sweep)
	l.drainTask = task(l.drain)
	return l
}

func task(f func()) gnet.Runnable {
	return gnet.RunnableFunc(func(context.Context) error { f(); return nil })
}

// execute has the loop run t after the events at hand. The caller is the loop
// itself, or holds mu.
func (l *loop) execute(t gnet.Runnable) {
	if err := l.el.Execute(context.Background(), t); err != nil {
		l.r.s.cfg.Log.Debug("task for an event loop that has ended", "err", err)
	}
}

// wake is execute for others. A loop without a connection has nothing to do, and
// one that waits for a disk that doesn't answer has none.
func (l *loop) wake(t gnet.Runnable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.el != nil && !l.stopped && l.conns.Load() > 0 && l.turn.Load() != relieved {
		l.execute(t)
	}
}

func (l *loop) open(c *conn) {
	to := fresh
	if l.r.s.draining.Load() {
		to = graced
	}
	l.put(c, to)
}

func (l *loop) put(c *conn, s state) {
	c.state = s
	l.lists[s].put(c, l.r.s.clock.now())
}

// read takes what one read brought.
func (l *loop) read(c *conn, data []byte) {
	switch {
	case c.state == lingering:
		l.readOff(c)
		return
	case c.ended:
		return // its last answer is on its way
	}
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}
	rest, answered := l.answer(c, data)
	l.keep(c, rest)
	l.place(c, answered)
}

// readOff gives a half-closed connection that still sends more time.
func (l *loop) readOff(c *conn) {
	now := l.r.s.clock.now()
	if now-c.halfClosed < longestReadOff && !l.r.s.draining.Load() {
		l.lists[lingering].put(c, now)
	}
}

// keep keeps what was not taken until more comes: data belongs to gnet, or is
// c.in itself.
func (l *loop) keep(c *conn, rest []byte) {
	switch {
	case len(rest) == 0 || c.ended:
		c.in = nil
	case len(c.in) > 0:
		c.in = c.in[:copy(c.in, rest)]
	default:
		c.in = append(c.in, rest...)
	}
}

// answer takes requests from data and answers them, on the spot or by way of a
// batch. It returns what it did not take, and whether a request was whole.
func (l *loop) answer(c *conn, data []byte) (rest []byte, answered bool) {
	for c.state.live() && len(c.out) == 0 {
		b := l.asking()
		data, l.answers = c.gather(l.codec, data, l.answers[:0], l.room(c), b)
		if len(l.answers) == 0 {
			break
		}
		answered = answered || l.answers[len(l.answers)-1].kind != proceed
		switch ask := asks(l.answers); {
		case !ask && c.owed == 0:
			l.reply(c, l.answers, nil, data)
		case b == &l.now:
			l.r.s.counter.Submit(b)
			l.reply(c, l.answers, b, data)
		default:
			l.gathering.answers = append(l.gathering.answers, l.answers...)
			l.gathering.shares = append(l.gathering.shares, share{c, len(l.answers)})
			c.owed += int32(len(l.answers))
		}
	}
	return data, answered
}

// asking is the batch that the requests at hand go into.
func (l *loop) asking() *counter.Batch {
	if l.r.s.counter.Instant() {
		l.now.Reset()
		return &l.now
	}
	if l.gathering == nil {
		l.gathering = l.takeBatch()
	}
	return &l.gathering.Batch
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
		c.drain(answers, rest)
	}
	l.out = l.r.s.render(l.out[:0], answers, b, l.tally)
	l.write(c, l.out)
}

// write writes out as far as the socket takes it, and keeps the rest.
func (l *loop) write(c *conn, out []byte) {
	for len(out) > 0 {
		n, err := unix.Write(c.gc.Fd(), out)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			c.out = append([]byte(nil), out...)
			return
		case err != nil:
			l.close(c)
			return
		default:
			out = out[n:]
		}
	}
}

func (l *loop) takeBatch() *batch {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		l.spareSize -= b.size()
		return b
	}
	b := &batch{}
	b.Done = func(*counter.Batch) { l.done(b) }
	return b
}

// endOfRead sees to it that what a read event brought is submitted: when the turn
// of the loop ends, or at once if the turn can bring no more, since every
// connection has asked.
func (l *loop) endOfRead() {
	switch {
	case l.gathering == nil || len(l.gathering.shares) == 0 || l.submits:
	case int64(len(l.gathering.shares)) >= l.conns.Load():
		l.submit()
	default:
		l.submits = true
		l.execute(l.submitTask)
	}
}

// submit hands the gathered batch to the counter.
func (l *loop) submit() {
	b := l.gathering
	if b == nil || len(b.shares) == 0 {
		return
	}
	l.gathering = nil
	l.queue(b)
	if !l.hand(&b.Batch) {
		return
	}
	l.mu.Lock()
	b.settled = true
	l.mu.Unlock()
	l.settle()
}

// queue appends a batch to those that are submitted. They are completed in this
// order, however they are settled: one that is refused at once would overtake those
// that the store still has, and a connection would get its answers in a wrong order.
func (l *loop) queue(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = b
	} else {
		l.last.next = b
	}
	l.last = b
}

// unqueue takes the first batch if it is settled. The caller holds mu.
func (l *loop) unqueue() *batch {
	b := l.first
	if b == nil || !b.settled {
		return nil
	}
	l.first = b.next
	b.next, b.settled = nil, false
	return b
}

// quick is how long the last commit may have taken for a loop to do the next one
// itself: about what a good disk needs, several times over.
const quick = 2 * time.Millisecond

// hand gives a batch to the counter. Before a quick disk the loop commits it
// itself, if nobody does.
func (l *loop) hand(b *counter.Batch) (settled bool) {
	s := l.r.s
	if s.cfg.Disk && s.counter.LastCommit() < quick {
		return l.commit(b)
	}
	return s.counter.Submit(b)
}

// done is called when the counter has settled b. However many batches it settles
// at once, the loop is woken once. A loop that can't be woken, since it waits for
// the disk, has no connections: theirs are goroutines.
func (l *loop) done(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.settled = true
	switch {
	case l.turn.Load() == relieved:
		l.completeRelieved()
	case l.first.settled && !l.woken && !l.stopped:
		l.woken = true
		l.execute(l.settleTask)
	}
}

// settle answers what the counter has settled, and asks what had to wait for room.
func (l *loop) settle() {
	for b := l.nextSettled(); b != nil; b = l.nextSettled() {
		l.complete(b)
	}
	l.endOfRead()
}

func (l *loop) nextSettled() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.unqueue()
	l.woken = l.woken && b != nil
	return b
}

// complete answers the connections of a settled batch.
func (l *loop) complete(b *batch) {
	from := 0
	for _, share := range b.shares {
		answers := b.answers[from : from+share.n]
		from += share.n
		l.deliver(share.c, answers, &b.Batch)
	}
	if l.spareSize+b.size() > mostSpare {
		return // an attack made it large, or so many: let go of its memory
	}
	l.spareSize += b.size()
	b.Reset()
	clear(b.shares)
	b.answers, b.shares = b.answers[:0], b.shares[:0]
	l.spare = append(l.spare, b)
}

// deliver answers one connection, wherever it is by now, and takes what it
// could not take before.
func (l *loop) deliver(c *conn, answers []answer, b *counter.Batch) {
	c.owed -= int32(len(answers))
	if !c.state.live() {
		if c.moved != nil {
			l.deliverLate(c, answers, b)
		}
		return
	}
	l.reply(c, answers, b, c.in)
	answered := false
	if len(c.in) > 0 {
		var rest []byte
		rest, answered = l.answer(c, c.in)
		l.keep(c, rest)
	}
	l.place(c, answered)
}

// place puts a connection where it belongs after an event.
func (l *loop) place(c *conn, answered bool) {
	if !c.state.live() {
		return
	}
	full := l.room(c) == 0
	to := c.state.next(facts{
		answered: answered,
		blocked:  len(c.out) > 0,
		ended:    c.ended,
		owed:     c.owed > 0,
		full:     full,
		flooding: len(c.in) > readSize,
		between:  c.between(c.in),
		draining: l.r.s.draining.Load(),
	})
	switch {
	case to == leaving:
		l.leave(c)
		l.close(c)
	case to == lingering:
		l.halfClose(c)
	case to != c.state || answered:
		l.put(c, to)
	}
}

// halfClose half-closes a connection that is owed nothing. It is then read off
// until the client closes too or time is up (RFC 9112 9.6).
func (l *loop) halfClose(c *conn) {
	if unix.Shutdown(c.gc.Fd(), unix.SHUT_WR) != nil {
		l.close(c)
		return
	}
	c.in, c.ended, c.halfClosed = nil, true, l.r.s.clock.now()
	l.put(c, lingering)
	l.linger(c)
}

// linger tells the server once that a half-closed connection has taken all its
// answers.
func (l *loop) linger(c *conn) {
	if !c.lingers && unsent(c.gc.Fd()) == 0 {
		c.lingers = true
		l.r.s.linger()
	}
}

// close closes a connection at once. gnet calls OnClose before it returns.
func (l *loop) close(c *conn) {
	l.el.Close(c.gc)
}

// forget ends what the loop has to do with c, but for answers of batches that
// are still on their way.
func (l *loop) forget(c *conn) {
	c.remove()
	c.state, c.in, c.out = gone, nil, nil
	l.conns.Add(-1)
}

// sweep ends what is late. A request may lie in the socket that gnet hasn't read
// yet; so it is looked at first.
func (l *loop) sweep() {
	now := l.r.s.clock.now()
	l.lists[graced].patience = l.r.s.grace()
	if l.r.s.draining.Load() {
		for c := l.lists[lingering].head; c != nil; c = c.next {
			l.linger(c)
		}
	}
	for c := l.lists[lingering].late(now); c != nil; c = l.lists[lingering].late(now) {
		if unsent(c.gc.Fd()) > 0 {
			l.leave(c) // a goroutine has the time to see it through
		}
		l.close(c)
	}
	for _, s := range []state{fresh, graced, idle, reading} {
		for c := l.lists[s].late(now); c != nil; c = l.lists[s].late(now) {
			if !l.look(c) {
				l.timeOut(c)
			}
		}
	}
	l.endOfRead()
}

// look takes what has arrived and was not read yet. It returns false if there is
// nothing.
func (l *loop) look(c *conn) bool {
	if l.looked == nil {
		l.looked = make([]byte, readSize)
	}
	n, err := unix.Read(c.gc.Fd(), l.looked)
	switch {
	case n > 0:
		l.read(c, l.looked[:n])
	case err == unix.EAGAIN || err == unix.EINTR:
		return false
	default:
		if n == 0 && c.owed > 0 {
			l.leave(c)
		}
		l.close(c)
	}
	return true
}

// timeOut ends a connection whose request did not arrive in time.
func (l *loop) timeOut(c *conn) {
	if c.between(c.in) {
		l.halfClose(c) // it never began: there is nothing to answer
		return
	}
	last := c.refuse(errTimeout)
	l.answers = append(l.answers[:0], last)
	if c.owed == 0 {
		l.reply(c, l.answers, nil, nil)
	} else {
		l.asking()
		l.gathering.answers = append(l.gathering.answers, last)
		l.gathering.shares = append(l.gathering.shares, share{c, 1})
		c.owed++
	}
	l.place(c, true)
}

// drain ends every connection that is owed nothing and has asked nothing.
func (l *loop) drain() {
	var quiet []*conn
	for _, s := range []state{fresh, idle, reading} {
		for c := l.lists[s].head; c != nil; c = c.next {
			if c.between(c.in) {
				quiet = append(quiet, c)
			}
		}
	}
	for _, c := range quiet {
		if c.state.live() && !l.look(c) {
			l.place(c, false)
		}
	}
	l.endOfRead()
}
