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
	conns   map[net.Conn]generation // given to net/http, and not closed
	unknown int                     // of these, not yet tracked by it

	silent *time.Timer // set in a drain
}

func newStd(s *Server) *std {
	m := &std{s: s, queue: newConnQueue(), conns: make(map[net.Conn]generation)}
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
	m.conns[nc] = g
	m.unknown++
	m.mu.Unlock()
	m.queue.conns <- nc
}

func (m *std) track(nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		m.mu.Lock()
		m.unknown--
		m.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		m.mu.Lock()
		g := m.conns[nc]
		delete(m.conns, nc)
		m.mu.Unlock()
		m.s.release(g)
	}
}

// retire leaves it to the handler that every answer is the last of its connection.
// Closing those that are idle would cut a request that net/http has just read,
// also the first of a connection. So that comes a while later: it then finds
// connections that are silent.
func (m *std) retire() {
	m.silent = time.AfterFunc(freshGrace, func() { m.http.SetKeepAlivesEnabled(false) })
}

// drain leaves it to net/http, once that has seen every connection it was
// given: Shutdown would miss one that it has accepted and not yet tracked.
func (m *std) drain(ctx context.Context) error {
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
	case <-time.After(freshGrace):
	}
	m.silent.Stop()
	err := m.http.Shutdown(ctx)
	// It has closed the idle ones, but their goroutines have yet to notice.
	if awaited := m.s.await(ctx, func() int { return 0 }); awaited != nil {
		err = awaited
	}
	m.http.Close()
	return err
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
	a, name := m.classify(c, w, r)
	c.batch.Reset()
	switch a.kind {
	case refusal:
		m.s.stats.refuse(a.err)
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
func (m *std) classify(c *call, w http.ResponseWriter, r *http.Request) (a answer, name []byte) {
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
	_, err = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, m.s.cfg.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return a, name
	case errors.As(err, &large):
		a.err = httpparse.ErrBodyTooLarge
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
	body := append(strconv.AppendInt(buf[:0], n, 10), '\n')
	h := w.Header()
	if m.s.draining.Load() {
		h.Set("Connection", "close")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func (m *std) refuse(w http.ResponseWriter, status int, reason string, last bool) {
	h := w.Header()
	switch status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD")
	}
	if last || m.s.draining.Load() {
		h.Set("Connection", "close")
	}
	h.Set("Content-Length", strconv.Itoa(len(reason)+1))
	w.WriteHeader(status)
	io.WriteString(w, reason+"\n")
}

// connQueue is the listener that net/http accepts from: the server's own
// acceptor stands behind it.
type connQueue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
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
	q.once.Do(func() { close(q.closed) })
	return nil
}

func (q *connQueue) Addr() net.Addr { return &net.TCPAddr{} }
