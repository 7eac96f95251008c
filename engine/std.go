package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// std is net/http, as a Go user gets it. What net/http decides before our
// handler runs, it decides its own way; docs/http.md lists the differences.
type std struct {
	s     *Server
	http  *http.Server
	queue *connQueue
	calls sync.Pool // of *call
	nth   atomic.Uint32

	mu      sync.Mutex
	conns   map[net.Conn]*stdConn // given to net/http, and not closed
	unknown int                   // of these, not yet tracked by it

	ended chan struct{} // closed when no connection is looked after any more
}

// stdConn is what is known of a connection of net/http's.
type stdConn struct {
	generation generation
	since      time.Time
	heard      bool // a request has come
	parting    bool // it was taken back from net/http, and is read off
	lingers    bool // it has all its answers
}

func newStd(s *Server) *std {
	m := &std{s: s, queue: newConnQueue(), conns: make(map[net.Conn]*stdConn), ended: make(chan struct{})}
	m.calls.New = func() any { return newCall(s.stats.shard(int(m.nth.Add(1)))) }
	cfg := &s.cfg
	m.http = &http.Server{
		Handler:                      http.HandlerFunc(m.answer),
		DisableGeneralOptionsHandler: true,
		ReadTimeout:                  cfg.ReadTimeout,
		// net/http counts this from the end of the fields: the body and the
		// store have their own time.
		WriteTimeout:   cfg.ReadTimeout + s.counter.Timeout() + cfg.WriteTimeout,
		IdleTimeout:    cfg.IdleTimeout,
		MaxHeaderBytes: cfg.MaxHeaderBytes,
		ConnState:      m.track,
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	go m.http.Serve(m.queue)
	return m
}

func (m *std) serve(nc net.Conn, g generation) {
	m.mu.Lock()
	m.conns[nc] = &stdConn{generation: g, since: time.Now()}
	m.unknown++
	m.mu.Unlock()
	m.queue.conns <- nc
}

func (m *std) track(nc net.Conn, state http.ConnState) {
	m.mu.Lock()
	c := m.conns[nc]
	switch state {
	case http.StateNew:
		m.unknown--
	case http.StateActive:
		c.heard = true
	case http.StateHijacked:
		c.parting = true
	}
	m.mu.Unlock()
	if state == http.StateClosed {
		m.closed(nc)
	}
}

func (m *std) closed(nc net.Conn) {
	m.mu.Lock()
	c := m.conns[nc]
	delete(m.conns, nc)
	m.mu.Unlock()
	m.s.release(c.generation, c.lingers)
}

// linger tells the server of connections that have taken all their answers, and are
// only read off.
func (m *std) linger() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for nc, c := range m.conns {
		if c.parting && !c.lingers && queued(nc) == 0 {
			c.lingers = true
			m.s.linger()
		}
	}
}

// retire leaves it to the handler that every answer is the last of its connection.
// Closing those that are idle would cut a request that net/http has just read, also
// the first of a connection. So that comes a while later, and then finds connections
// that are silent.
func (m *std) retire() {
	go func() {
		tick := time.NewTicker(shortGrace / 4)
		defer tick.Stop()
		for began := time.Now(); ; {
			select {
			case <-tick.C:
			case <-m.ended:
				return
			}
			m.hurry()
			if time.Since(began) > m.s.grace() {
				m.http.SetKeepAlivesEnabled(false) // which closes those that are idle
			}
		}
	}()
}

// unheard is how long net/http's Shutdown waits for a first request, a part of which
// may be there.
const unheard = 5 * time.Second

// hurry ends the wait for a first request: of a connection that came in the drain, as
// soon as a request could have followed it. One that has come, and that a busy machine
// has not read yet, is left to net/http.
func (m *std) hurry() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for nc, c := range m.conns {
		grace := unheard
		if c.generation == later {
			grace = m.s.grace()
		}
		if !c.heard && time.Since(c.since) > grace && !waits(nc) {
			nc.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// settle leaves it to net/http, once that has seen every connection it was
// given: Shutdown would miss one that it has accepted and not yet tracked.
func (m *std) settle(ctx context.Context) {
	for ctx.Err() == nil {
		m.mu.Lock()
		unknown := m.unknown
		m.mu.Unlock()
		if unknown == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-m.s.empty:
	case <-ctx.Done():
	case <-time.After(m.s.grace()):
	}
	defer m.linger()
	if m.http.Shutdown(ctx) != nil {
		return
	}
	// It has closed the idle ones, but their goroutines have yet to notice.
	look := time.NewTicker(tick)
	defer look.Stop()
	for {
		m.linger()
		select {
		case <-m.s.answered:
			return
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func (m *std) close(ctx context.Context) {
	select {
	case <-m.s.empty:
	case <-ctx.Done():
	}
	close(m.ended)
	m.http.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for nc, c := range m.conns {
		if c.parting {
			nc.Close()
		}
	}
}

// call is what a request needs while it is handled.
type call struct {
	batch   counter.Batch
	settled chan struct{}
	tally   *tally
	line    []byte // method and target, to be judged
}

func newCall(t *tally) *call {
	c := &call{settled: make(chan struct{}, 1), tally: t}
	c.batch.Done = func(*counter.Batch) { c.settled <- struct{}{} }
	return c
}

// The values of fields that are the same in every answer; net/http only reads
// them.
var (
	plainText = []string{"text/plain; charset=utf-8"}
	noStore   = []string{"no-store"}
)

func (m *std) answer(w http.ResponseWriter, r *http.Request) {
	c := m.calls.Get().(*call)
	defer m.calls.Put(c)
	h := w.Header()
	h["Content-Type"] = plainText
	h["Cache-Control"] = noStore
	if origin := m.s.cfg.CORS; origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	a, name := m.classify(c, r)
	c.batch.Reset()
	switch a.kind {
	case refusal:
		m.s.stats.refuse(a.err)
		if a.err == httpparse.ErrBodyTooLarge {
			m.refuseUpload(w)
			return
		}
		m.refuse(w, a.err.Status, a.err.Reason, a.reply.Close)
		return
	case hit:
		a.place = c.batch.Hit(name)
	case read:
		a.place = c.batch.Read(name)
	case readSum:
		a.place = c.batch.ReadSum()
	}
	// Never with r.Context(): a client's half-close cancels it.
	if !m.s.counter.Commit(&c.batch) {
		<-c.settled
	}
	n, err := c.batch.Number(a.place)
	switch {
	case errors.Is(err, counter.ErrTooMany):
		c.tally.tooMany.Add(1)
		m.refuse(w, http.StatusInsufficientStorage, tooManyCounters, false)
	case err != nil:
		c.tally.unavailable.Add(1)
		m.refuse(w, http.StatusServiceUnavailable, unavailable(err), false)
	case a.kind == hit:
		c.tally.hits.Add(1)
		m.number(w, n)
	default:
		c.tally.reads.Add(1)
		m.number(w, n)
	}
}

var (
	last    = httpparse.Reply{Close: true}
	errBody = &httpparse.Error{Name: "malformed_body", Status: 400, Reason: "malformed body", Section: "RFC 9112 6.3"}
)

// classify says what r asks for, and of which counter, once its body has been
// read off. name is good until the next call.
func (m *std) classify(c *call, r *http.Request) (a answer, name []byte) {
	c.line = append(append(c.line[:0], r.Method...), r.RequestURI...)
	method, target := c.line[:len(r.Method)], c.line[len(r.Method):]
	path, err := httpparse.CheckTarget(method, target)
	if err == nil {
		a.kind, name, a.err = m.s.contract.judge(method, path)
	}
	switch {
	case r.ProtoMajor != 1: // the preface of HTTP/2
		return answer{kind: refusal, err: httpparse.ErrMajor, reply: last}, nil
	case err != nil:
		return answer{kind: refusal, err: reason(err), reply: last}, nil
	case r.Method == http.MethodConnect || a.err == errNameTooLong:
		a.reply = last
		return a, nil
	case r.ContentLength > m.s.cfg.MaxBodyBytes:
		return answer{kind: refusal, err: httpparse.ErrBodyTooLarge, reply: last}, nil
	case a.kind == refusal && r.Header.Get("Expect") != "":
		a.reply = last // reading the body would ask for it
		return a, nil
	case r.Body == http.NoBody:
		return a, name
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, m.s.cfg.MaxBodyBytes+1))
	switch {
	case n > m.s.cfg.MaxBodyBytes:
		a.err = httpparse.ErrBodyTooLarge
	case err == nil:
		return a, name
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.err = errTimeout
	default:
		a.err = errBody
	}
	a.kind, a.reply = refusal, last
	return a, nil
}

func (m *std) number(w http.ResponseWriter, n int64) {
	var buf [21]byte
	m.send(w, http.StatusOK, append(strconv.AppendInt(buf[:0], n, 10), '\n'), false)
}

func (m *std) refuse(w http.ResponseWriter, status int, reason string, last bool) {
	switch status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", "GET, HEAD")
	}
	m.send(w, status, []byte(reason+"\n"), last)
}

func (m *std) send(w http.ResponseWriter, status int, body []byte, last bool) {
	h := w.Header()
	if last || m.s.draining.Load() {
		h.Set("Connection", "close")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// refuseUpload answers 413 to a client that may still be sending. net/http would close
// the connection within half a second, and what the client sends then takes the answer
// back; so the connection is taken from it and read off as the other engines do.
func (m *std) refuseUpload(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // or the answer waits for the body
	m.refuse(w, httpparse.ErrBodyTooLarge.Status, httpparse.ErrBodyTooLarge.Reason, true)
	if rc.Flush() != nil {
		return
	}
	nc, _, err := rc.Hijack()
	if err != nil {
		return
	}
	m.s.part(nc, func() {}) // a drain looks after it
	nc.Close()
	m.closed(nc)
}

// connQueue is the listener that net/http accepts from, and closes once: the
// server's own acceptor stands behind it.
type connQueue struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newConnQueue() *connQueue {
	return &connQueue{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case nc := <-q.conns:
		return nc, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *connQueue) Close() error {
	close(q.closed)
	return nil
}

func (q *connQueue) Addr() net.Addr { return &net.TCPAddr{} }
