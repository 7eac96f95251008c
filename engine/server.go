package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

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

	// Disk says that the counter's store commits to a disk. An event loop then
	// commits itself where it finds the store idle and quick.
	Disk bool

	PerPath bool   // each path has a counter of its own
	CORS    string // value of Access-Control-Allow-Origin; empty: none

	ReadTimeout  time.Duration // a whole request, from its first byte (the first: from accept)
	WriteTimeout time.Duration // without the client taking a byte of a waiting answer
	IdleTimeout  time.Duration // between requests, when nothing is owed

	MaxHeaderBytes int   // request line and fields; trailers have as much again
	MaxBodyBytes   int64 // body with its framing; 0 allows none
	MaxConns       int   // open connections; those beyond get 503

	// MaxDescriptors is how many descriptors connections may have all together; 0: no
	// limit. Where an event loop waits for a disk that doesn't answer, each of its
	// connections needs a second one.
	MaxDescriptors int

	Log *slog.Logger
}

const (
	// silence is how long a half-closed connection is read off after its last
	// byte, so that the client sees the last answer and not a reset
	// (RFC 9112 9.6). In a drain it is all the time there is.
	silence = time.Second

	// longestReadOff is how long it is read off while bytes still come.
	longestReadOff = 30 * time.Second

	// freshGrace is how long a drain waits for the first request of a
	// connection that has just been accepted: its request may be on its way.
	freshGrace = time.Second

	// shortGrace is the same after Retire: whoever takes over waits for it.
	shortGrace = 400 * time.Millisecond

	// unreadTime is how long a client may leave its answers unread before the
	// next answer is its last.
	unreadTime = time.Second

	// burst bounds the answers owed on one connection. Requests beyond it wait
	// unparsed; it bounds what one client can make the server hold.
	burst = 128

	// readSize is how much is read from a socket at a time.
	readSize = 16 << 10

	// rejects bounds the connections that are being told 503 for want of room.
	rejects = 8
)

// Descriptors is how many file descriptors a server may have open beyond one for each
// of MaxConns connections. loops is Config.Loops.
func Descriptors(engine string, loops int) int {
	n := rejects + 1 // that one just accepted
	if engine == Gnet {
		// A loop has two of its own, two more for a connection that leaves it, and one
		// that it is about to close. One that is parked has two when it gets a goroutine.
		n += mostEntering + 1 + 5*loops
	}
	return n
}

// model is one way of doing I/O. The server accepts; a model does the rest.
type model interface {
	// serve takes over a connection that the server has admitted. The model
	// calls Server.release with its generation when it is closed. It must not
	// block for long: the acceptor waits.
	serve(net.Conn, generation)
	// retire is called once, when a drain has begun: connections that are owed
	// nothing end, and the others with their next answer.
	retire()
	// settle is called when nothing more will be accepted. It waits until no
	// connection is owed anything, or ctx ends.
	settle(ctx context.Context)
	// close waits until every connection is closed, or ctx ends, and cuts what is
	// left. It leaves nothing running, unless a loop waits for a disk.
	close(ctx context.Context)
}

// generation tells the connections that were admitted before a drain from those
// that came later.
type generation uint8

const (
	before generation = iota
	later
)

// Server accepts connections and answers them until Shutdown.
type Server struct {
	cfg      Config
	counter  *counter.Counter
	limits   httpparse.Limits
	contract contract
	model    model
	clock    *clock
	stats    stats

	responses *responses

	draining atomic.Bool
	hurried  atomic.Bool // by Retire
	retiring sync.Once
	closing  sync.Once
	stopping chan struct{} // closed when nothing more is to be accepted
	accepted chan struct{} // closed when the acceptor has ended
	rejects  chan struct{} // a place for each connection being rejected

	mu        sync.Mutex
	ln        net.Listener
	open      [2]int        // connections, by generation
	doubled   int           // how many of them have a second descriptor
	lingering int           // how many of them have all their answers, and are only read off
	old       chan struct{} // closed in a drain when none of the first generation is open
	complete  bool          // nothing more will be accepted: open only falls
	answered  chan struct{} // closed when complete, and all that are open linger
	empty     chan struct{} // closed when complete and no connection is open
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
		contract: contract{perPath: cfg.PerPath},
		stopping: make(chan struct{}),
		accepted: make(chan struct{}),
		rejects:  make(chan struct{}, rejects),
		old:      make(chan struct{}),
		answered: make(chan struct{}),
		empty:    make(chan struct{}),
	}
	if cfg.MaxBodyBytes == 0 {
		s.limits.MaxBodyBytes = -1 // to httpparse 0 is its default
	}
	var err error
	if s.responses, err = newResponses(cfg.CORS); err != nil {
		return nil, err
	}
	s.clock = newClock()
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

func (s *Server) newCodec() *codec {
	return &codec{Parser: httpparse.NewParser(s.limits), contract: s.contract}
}

// release tells that an admitted connection is closed, which lingered or not.
func (s *Server) release(g generation, lingered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[g]--
	if lingered {
		s.lingering--
	}
	s.checkOpen()
}

// linger tells that a connection has all its answers, and is only read off.
func (s *Server) linger() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lingering++
	s.checkOpen()
}

// checkOpen tells those who wait for the end of connections.
func (s *Server) checkOpen() {
	if !s.draining.Load() {
		return
	}
	if s.open[before] == 0 {
		closeOnce(s.old)
	}
	open := s.open[before] + s.open[later]
	if s.complete && open == s.lingering {
		closeOnce(s.answered)
	}
	if s.complete && open == 0 {
		closeOnce(s.empty)
	}
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// grace is how long a drain waits for a first request.
func (s *Server) grace() time.Duration {
	if s.hurried.Load() {
		return shortGrace
	}
	return freshGrace
}

// retire begins a drain.
func (s *Server) retire() {
	s.retiring.Do(func() {
		s.mu.Lock()
		s.draining.Store(true)
		s.checkOpen()
		s.mu.Unlock()
		s.model.retire()
	})
}

// Retire begins a drain and goes on accepting, until Shutdown: from now on every
// answer is the last of its connection, and connections that are owed nothing
// end. It returns when those that were open have ended, or ctx.
func (s *Server) Retire(ctx context.Context) error {
	s.hurried.Store(true)
	s.retire()
	select {
	case <-s.old:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain: %w", context.Cause(ctx))
	}
}

// Shutdown stops accepting and answers what is under way: requests already read
// are committed and answered, the last of each connection with Connection: close.
// It returns nil when all of that was delivered before ctx ended; then nothing needs
// the counter any more, and Close sees the connections to their end. Otherwise it
// cuts what is left and says how much that was. Call it once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	close(s.stopping)
	ln := s.ln
	s.mu.Unlock()
	s.retire()
	if ln != nil {
		if dl, ok := ln.(deadliner); ok {
			dl.SetDeadline(time.Now())
		} else {
			ln.Close()
		}
		<-s.accepted
	}
	s.mu.Lock()
	s.complete = true
	s.checkOpen()
	s.mu.Unlock()
	s.model.settle(ctx)

	s.mu.Lock()
	owed := s.open[before] + s.open[later] - s.lingering
	s.mu.Unlock()
	if owed == 0 {
		return nil
	}
	s.Close(ctx)
	return fmt.Errorf("drain: %d connections cut: %w", owed, context.Cause(ctx))
}

// Close closes the connections that Shutdown has left, once what they still send was
// read off, which takes a second at most; when ctx ends, at once. It leaves nothing
// running. Calling it again does nothing.
func (s *Server) Close(ctx context.Context) {
	s.closing.Do(func() {
		s.model.close(ctx)
		s.clock.stop()
	})
}
