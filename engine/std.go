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

	handed atomic.Int64 // connections given to net/http
	seen   atomic.Int64 // and tracked by it
}

func newStd(s *Server) *std {
	m := &std{s: s, queue: newConnQueue()}
	m.calls.New = func() any { return newCall(s.stats.shard(int(m.nth.Add(1)))) }
	cfg := &s.cfg
	m.http = &http.Server{
		Handler:                      http.HandlerFunc(m.answer),
		DisableGeneralOptionsHandler: true,
		ReadTimeout:                  cfg.ReadTimeout,
		// net/http counts this from the end of the fields: the body and the
		// store have their own time.
		WriteTimeout:   cfg.ReadTimeout + cfg.StoreTimeout + cfg.WriteTimeout,
		IdleTimeout:    cfg.IdleTimeout,
		MaxHeaderBytes: cfg.MaxHeaderBytes,
		ConnState:      m.track,
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	go m.http.Serve(m.queue)
	return m
}

func (m *std) serve(nc net.Conn) {
	m.handed.Add(1)
	m.queue.conns <- nc
}

func (m *std) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		m.seen.Add(1)
	case http.StateClosed, http.StateHijacked:
		m.s.release()
	}
}

// drain leaves it to net/http, once that has seen every connection it was
// given: Shutdown would miss one that it has accepted and not yet tracked.
func (m *std) drain(ctx context.Context) error {
	for m.seen.Load() < m.handed.Load() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	// Shutdown drops a request that it has just read, also the first of a
	// connection. So for a while every answer is the last of its connection, and
	// what Shutdown then finds are connections that are silent.
	select {
	case <-m.s.empty:
	case <-ctx.Done():
	case <-time.After(freshGrace):
	}
	if m.http.Shutdown(ctx) == nil {
		// It has closed the idle ones, but their goroutines have yet to notice.
		select {
		case <-m.s.empty:
			return nil
		case <-ctx.Done():
		}
	}
	err := m.s.cut(ctx)
	m.http.Close()
	return err
}

// call is what a request needs while it is handled.
type call struct {
	batch   counter.Batch
	settled chan struct{}
	one     [1]answer
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

	a := m.classify(c, w, r)
	c.one[0] = a
	if a.kind == refusal {
		m.s.stats.answered(c.tally, c.one[:], nil)
		m.refuse(w, a.err.Status, a.err.Reason, a.flags&flagClose != 0)
		return
	}
	c.batch.Hits = 0
	if a.kind == hit {
		c.batch.Hits = 1
	}
	// Never with r.Context(): a client's half-close cancels it.
	if !m.s.counter.Submit(&c.batch) {
		<-c.settled
	}
	m.s.stats.answered(c.tally, c.one[:], &c.batch)
	switch {
	case a.kind == hit && c.batch.Granted == 1:
		m.number(w, c.batch.First)
	case a.kind == read && readable(&c.batch):
		m.number(w, c.batch.First-1)
	default:
		m.refuse(w, http.StatusServiceUnavailable, unavailable(c.batch.Err), false)
	}
}

var (
	errBodyTooLarge = &httpparse.Error{Status: 413, Reason: "request body too large", Section: "RFC 9110 15.5.14"}
	errBody         = &httpparse.Error{Status: 400, Reason: "malformed body", Section: "RFC 9112 6.3"}
)

// classify says what r asks for, once its body has been read off.
func (m *std) classify(c *call, w http.ResponseWriter, r *http.Request) answer {
	a := answer{kind: hit}
	c.line = append(append(c.line[:0], r.Method...), r.RequestURI...)
	path, err := httpparse.CheckTarget(c.line[:len(r.Method)], c.line[len(r.Method):])
	switch {
	case r.ProtoMajor != 1: // the preface of HTTP/2
		return answer{kind: refusal, err: httpparse.ErrMajor, flags: flagClose}
	case err != nil:
		return answer{kind: refusal, err: reason(err), flags: flagClose}
	case r.Method == http.MethodConnect:
		return answer{kind: refusal, err: errNotImplemented, flags: flagClose}
	case r.ContentLength > m.s.cfg.MaxBodyBytes:
		return answer{kind: refusal, err: errBodyTooLarge, flags: flagClose}
	case r.Method == http.MethodTrace:
		a.kind, a.err = refusal, errNotImplemented
	case string(path) != "/count":
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		a.kind = read
	default:
		a.kind, a.err = refusal, errMethodNotAllowed
	}
	if a.kind == refusal && r.Header.Get("Expect") != "" {
		a.flags |= flagClose // reading the body would ask for it
		return a
	}
	if r.Body == http.NoBody {
		return a
	}
	_, err = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, m.s.cfg.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return a
	case errors.As(err, &large):
		a.err = errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.err = errSlow
	default:
		a.err = errBody
	}
	a.kind, a.flags = refusal, flagClose
	return a
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
