package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// The names of the engines, as Config.Engine takes them.
const (
	Gnet      = "gnet"
	Goroutine = "goroutine"
	Std       = "std"
)

// Config is what a Server needs to know. Durations and limits must be positive.
type Config struct {
	Engine string // Gnet, Goroutine or Std
	Loops  int    // event loops; gnet only

	ReadTimeout  time.Duration // a whole request, from its first byte (the first: from accept)
	WriteTimeout time.Duration // without the client taking a byte of a waiting answer
	StoreTimeout time.Duration // what the counter was given; std needs to know it
	IdleTimeout  time.Duration // between requests, when nothing is owed

	MaxHeaderBytes int   // request line and fields; trailers have as much again
	MaxBodyBytes   int64 // body with its framing; 0 allows none
	MaxConns       int   // open connections; those beyond get 503

	Log *slog.Logger
}

const (
	// lingerTime is how long a half-closed connection is read off before it is
	// closed, so that the client sees the last answer and not a reset
	// (RFC 9112 9.6).
	lingerTime = time.Second

	// freshGrace is how long a drain waits for the first request of a
	// connection that has just been accepted: its request may be on its way.
	freshGrace = time.Second

	// unreadTime is how long a client may leave its answers unread before the
	// next answer is its last.
	unreadTime = time.Second

	// burst bounds the answers owed on one connection. Requests beyond it wait
	// unparsed; it bounds what one client can make the server hold.
	burst = 128

	// readSize is how much is read from a socket at a time.
	readSize = 16 << 10

	// rejects bounds the connections that are being told 503 for want of room.
	rejects = 16
)

// model is one way of doing I/O. The server accepts; a model does the rest.
type model interface {
	// serve takes over a connection that the server has counted. The model
	// calls Server.release when it is closed. It must not block for long: the
	// acceptor waits.
	serve(net.Conn)
	// drain lets every connection finish what it owes and closes it. It
	// returns when all are gone or ctx ends, and leaves nothing running.
	drain(ctx context.Context) error
}

// Server accepts connections and answers them until Shutdown.
type Server struct {
	cfg     Config
	counter *counter.Counter
	limits  httpparse.Limits
	model   model
	clock   *clock
	stats   stats

	draining atomic.Bool
	accepted chan struct{} // closed when the acceptor has ended
	rejects  chan struct{} // a place for each connection being rejected

	mu       sync.Mutex
	ln       net.Listener
	open     int
	complete bool          // nothing more will be accepted: open only falls
	empty    chan struct{} // closed when complete and no connection is open
}

// New makes a server of the engine that cfg names. It does not own c: close
// the counter after Shutdown, which needs it to settle what is owed.
func New(cfg Config, c *counter.Counter) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg:      cfg,
		counter:  c,
		limits:   httpparse.Limits{MaxHeaderBytes: cfg.MaxHeaderBytes, MaxBodyBytes: cfg.MaxBodyBytes},
		accepted: make(chan struct{}),
		rejects:  make(chan struct{}, rejects),
		empty:    make(chan struct{}),
	}
	if cfg.MaxBodyBytes == 0 {
		s.limits.MaxBodyBytes = -1 // to httpparse 0 is its default
	}
	s.clock = newClock()
	var err error
	switch cfg.Engine {
	case Gnet:
		s.model, err = newReactor(s)
	case Goroutine:
		s.model = newGoroutines(s)
	case Std:
		s.model = newStd(s)
	default:
		err = fmt.Errorf("unknown engine %q", cfg.Engine)
	}
	if err != nil {
		s.clock.stop()
		return nil, err
	}
	return s, nil
}

// Serve accepts connections from ln until Shutdown, then returns nil, with ln
// closed. Running out of descriptors or memory makes it wait, not end; any
// other failure of ln is returned. Call it once.
func (s *Server) Serve(ln net.Listener) error {
	defer close(s.accepted)
	defer ln.Close()
	s.mu.Lock()
	if s.draining.Load() {
		// Shutdown was faster, and hasn't waited for us: the model is gone.
		s.mu.Unlock()
		return nil
	}
	s.ln = ln
	s.mu.Unlock()

	pause := time.Duration(0)
	for !s.draining.Load() {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(nc)
		case s.draining.Load():
		case errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EINTR):
		case scarce(err):
			s.stats.acceptErrors.Add(1)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.cfg.Log.Warn("accept failed, waiting", "err", err, "pause", pause)
			s.wait(pause)
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
	s.acceptQueued(ln)
	return nil
}

// scarce tells an accept error that passes when others let go of something.
func scarce(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait pauses the acceptor; a drain cuts it short.
func (s *Server) wait(d time.Duration) {
	for end := time.Now().Add(d); !s.draining.Load() && time.Now().Before(end); {
		time.Sleep(min(d, 20*time.Millisecond))
	}
}

// acceptQueued takes what the kernel has already established for us: those
// clients believe they are connected, and closing the listener would reset
// them. Under constant load new ones keep coming, so it ends after a while.
func (s *Server) acceptQueued(ln net.Listener) {
	dl, ok := ln.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return
	}
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		// A deadline in the past would fail without asking the kernel.
		if dl.SetDeadline(time.Now().Add(2*time.Millisecond)) != nil {
			return
		}
		nc, err := ln.Accept()
		switch {
		case err == nil:
			s.admit(nc)
		case !errors.Is(err, os.ErrDeadlineExceeded) || !pending(ln):
			return
		}
	}
}

// pending asks the kernel whether connections queue at ln: on a busy machine
// the deadline of an Accept may be past before it begins.
func pending(ln net.Listener) (yes bool) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return false
	}
	if raw, err := sc.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			yes = n > 0
		})
	}
	return yes
}

// admit hands a connection to the model, or refuses it for want of room. The
// check stands before the hand-over: a model may not see the connection before
// many more were accepted.
func (s *Server) admit(nc net.Conn) {
	s.mu.Lock()
	full := s.open >= s.cfg.MaxConns
	if !full {
		s.open++
	}
	s.mu.Unlock()
	if full {
		s.reject(nc)
		return
	}
	s.stats.accepted.Add(1)
	s.model.serve(nc)
}

// release tells that an admitted connection is closed.
func (s *Server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.open == 0 && s.complete {
		s.closeEmpty()
	}
}

func (s *Server) closeEmpty() {
	select {
	case <-s.empty:
	default:
		close(s.empty)
	}
}

// reject tells a connection beyond MaxConns 503, as far as that goes without
// waiting for anybody.
func (s *Server) reject(nc net.Conn) {
	s.stats.rejected.Add(1)
	select {
	case s.rejects <- struct{}{}:
	default:
		nc.Close()
		return
	}
	go func() {
		defer func() { <-s.rejects }()
		a := answer{kind: refusal, err: errTooManyConns, flags: flagClose}
		nc.SetDeadline(time.Now().Add(lingerTime))
		if _, err := nc.Write(appendAnswer(nil, s.clock, a, nil)); err == nil {
			readOff(nc, lingerTime)
		}
		nc.Close()
	}()
}

// Shutdown stops accepting, lets every connection finish what it owes, and
// closes them all. Requests already read are committed and answered, the last
// of each connection with Connection: close. It returns nil when everything
// owed was delivered before ctx ended; otherwise it cuts what is left and says
// how much that was. Call it once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	ln := s.ln
	s.mu.Unlock()
	if ln != nil {
		if dl, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
			dl.SetDeadline(time.Now())
		} else {
			ln.Close()
		}
		<-s.accepted
	}
	s.mu.Lock()
	s.complete = true
	if s.open == 0 {
		s.closeEmpty()
	}
	s.mu.Unlock()
	err := s.model.drain(ctx)
	s.clock.stop()
	return err
}

// cut is the error of a drain that ran out of time.
func (s *Server) cut(ctx context.Context) error {
	s.mu.Lock()
	n := s.open
	s.mu.Unlock()
	return fmt.Errorf("drain: %d connections cut: %w", n, context.Cause(ctx))
}
