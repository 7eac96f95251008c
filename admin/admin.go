package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/counterd/counterd/counter"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 30 * time.Second

	// writeTimeout lets a profile of a minute finish. Live streams set their
	// own deadlines.
	writeTimeout = 90 * time.Second

	// sendBuffer bounds what the kernel holds for a viewer that doesn't read.
	sendBuffer = 16 << 10
)

// Traffic is a snapshot of what the counting listener has done since its start.
type Traffic struct {
	Hits         uint64
	Reads        uint64
	Unavailable  uint64
	TooMany      uint64 // hits refused because there was no room for a new counter
	Accepted     uint64
	Rejected     uint64
	AcceptErrors uint64
	Open         int64
	Refused      map[string]uint64 // requests refused, by reason: a word of a fixed list
}

// StoreStats is what a store over a network knows about its troubles.
type StoreStats struct {
	Retries   uint64 // attempts beyond the first of each commit
	Ambiguous uint64 // commits of which an attempt had an unknown outcome
}

// Options say what to show and whom to ask. The functions are called from
// several goroutines.
type Options struct {
	Version  string // of the build
	Revision string // of its source; may be empty
	Engine   string
	Store    string // as it may be shown: without a password
	MaxConns int    // limit of the counting listener

	// Conns is the cap on admin connections, at least 2; half of them may be
	// live streams. 0 means 64.
	Conns int

	// Read asks the store for the count. It should give up when ctx ends, but
	// nothing breaks if it doesn't. Total is the last count known, at once.
	Read  func(ctx context.Context) (int64, error)
	Total func() int64

	// Ready says why a hit would get 503 now although the store can be read; nil
	// if it wouldn't. It is asked after each Read that succeeded, and should give
	// up as Read does. A nil Ready: whoever can read can hit.
	Ready func(ctx context.Context) error

	Traffic func() Traffic
	Commits *Commits          // nil: there are none
	Stats   func() StoreStats // nil: the store has none

	// Counters lists them where there are many; nil: there is one. What is given
	// to its Each may take seconds, if whoever reads the list is slow.
	Counters counter.Lister

	Log *slog.Logger // nil: no logs
}

// Server is the admin listener. Its methods are safe for concurrent use.
type Server struct {
	opts     Options
	probe    *probe
	lists    slots
	exports  slots
	live     *live
	http     *http.Server
	draining atomic.Bool
	stop     context.CancelFunc
}

// New starts what samples the server for the live page; Close ends it.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Conns == 0 {
		o.Conns = 64
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{opts: o, probe: newProbe(&o), lists: make(slots, maxLists), exports: make(slots, maxExports), stop: cancel}
	s.live = newLive(s, max(o.Conns/2, 1))
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       2 * headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go s.live.run(ctx)
	return s
}

// Serve answers on ln until Close, then returns nil.
func (s *Server) Serve(ln net.Listener) error {
	if addr, ok := ln.Addr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		s.http.Handler = onlyLoopbackHosts(s.http.Handler)
	} else {
		s.opts.Log.Warn("the admin listener is open to other machines: profiles and metrics need no password", "admin", ln.Addr())
	}
	err := s.http.Serve(netutil.LimitListener(smallBuffers{newPersistent(ln, s.opts.Log)}, s.opts.Conns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}

// Drain makes /readyz say 503 from now on.
func (s *Server) Drain() { s.draining.Store(true) }

// Close ends Serve and cuts every connection.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	<-s.live.done
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.live.page)
	mux.HandleFunc("GET /live.css", asset("live.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /live.js", asset("live.js", "text/javascript; charset=utf-8"))
	for _, name := range []string{"icon.svg", "icon-warn.svg", "icon-bad.svg", "icon-lost.svg"} {
		mux.HandleFunc("GET /"+name, icon(name))
	}
	mux.HandleFunc("GET /events", s.live.events)
	mux.HandleFunc("GET /counters", s.withMany(s.counters))
	mux.HandleFunc("GET /counters.csv", s.withMany(s.countersCSV))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.metrics())
	// pprof.Cmdline is left out: the command line may hold a password.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return withHeaders(mux)
}

// healthz says that the process lives. What it depends on is readyz's matter: a
// restart doesn't bring a database back.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	if _, err := s.probe.ask(r.Context()); err != nil {
		http.Error(w, "store: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// withHeaders sets what every answer needs to be safe in a browser, and refuses what
// pages of other sites ask of it.
func withHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if foreign(r) {
			http.Error(w, "this listener answers no other site's pages", http.StatusForbidden)
			return
		}
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		h.ServeHTTP(w, r)
	})
}

// foreign reports whether a browser says that another site's page asks, and not
// somebody who follows a link. Such a page can't read the answers, but it could have
// profiles and lists made without end.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site": // of the same host on another port
		return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
	}
	return false
}

// onlyLoopbackHosts refuses requests for a host that isn't loopback by name.
// Any port will do: it may be forwarded.
func onlyLoopbackHosts(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "this listener answers only for localhost", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.EqualFold(host, "localhost") { // HTTP/1.0 needs no Host
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// smallBuffers bounds what the kernel keeps for each connection.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		// If it fails the buffer is merely larger.
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	return c, nil
}
