package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/counterd/counterd/admin"
	"github.com/counterd/counterd/cmd/counterd/internal/listen"
	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

const (
	// handover is how long a process that gives way to another goes on
	// accepting: handshakes begun before it yielded end up in its queue, a round
	// trip later.
	handover = 500 * time.Millisecond

	// twice is how close together two signals are one.
	twice = 20 * time.Millisecond

	// closing is what the store may take to close after a drain that has used
	// up its time: what it holds back with --sync=DURATION is worth a moment.
	closing = time.Second
)

// errLogged is a failure that is in the log already.
var errLogged = errors.New("logged")

// serve runs the server until a signal. A second signal ends the process.
func serve(ctx context.Context, c *config) error {
	log := newLogger(c)
	slog.SetDefault(log)
	// Whoever reads the log may go away; counting goes on.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		cancel()
		// timeout(1) and some supervisors signal a process and then its group,
		// so one wish to stop may arrive twice.
		for first := time.Now(); time.Since(first) < twice; {
			<-signals
		}
		log.Error("second signal, not waiting any longer")
		os.Exit(exitFailed)
	}()

	s, err := start(ctx, c, log)
	switch {
	case err != nil && ctx.Err() != nil:
		log.Info("stopped before the start was complete")
		return nil
	case err != nil:
		log.Error("cannot start", "err", oneLine(err))
		return errLogged
	}
	cause := s.run(ctx)
	err = s.stop()
	switch {
	case cause != nil: // whatever else fails then follows from it
		log.Error("cannot go on", "err", oneLine(cause))
		return errLogged
	case err != nil:
		log.Error("did not stop cleanly", "err", oneLine(err))
		return errLogged
	}
	log.Info("stopped", "count", s.counter.Total())
	return nil
}

// oneLine is err on one line: the database's driver names each address that it
// tried on one of its own.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, " ")
}

func newLogger(c *config) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// service is a counterd whose listeners and store are open.
type service struct {
	config    *config
	log       *slog.Logger
	ln        *net.TCPListener
	inherited bool         // ln is systemd's
	turn      *listen.Turn // nil: processes don't take turns on the port
	counter   *counter.Counter
	engine    *engine.Server

	admin   *admin.Server // nil: off
	adminLn net.Listener
}

// start opens everything, in this order: the counting listener, so that
// connections queue while the rest takes its time; the store; the admin
// listener, which another process may hold as long as the store.
func start(ctx context.Context, c *config, log *slog.Logger) (_ *service, err error) {
	patience, cancel := context.WithTimeout(ctx, c.TakeoverTimeout)
	defer cancel()
	s := &service{config: c, log: log}
	if err := s.openListener(patience); err != nil {
		return nil, err
	}
	commits := admin.NewCommits()
	var stats func() admin.StoreStats
	s.counter, stats, err = openCounter(ctx, patience, c, commits, log)
	if err != nil {
		return nil, err
	}
	store := closer{s.counter}
	if s.shares() && s.turn == nil {
		if err := s.firstTurn(filePath(c.Store)); err != nil {
			return nil, errors.Join(err, store.Close())
		}
	}
	if c.Admin != "" {
		s.adminLn, err = listenAdmin(patience, c.Admin, log)
		if err != nil {
			return nil, errors.Join(err, store.Close())
		}
	}
	loops := cmp.Or(c.Loops, runtime.GOMAXPROCS(0)) // without the spare ones
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors(c))
	scheduleAsBatch()
	conns, adminConns := share(descriptors())
	conns = cmp.Or(c.MaxConns, conns)
	s.engine, err = engine.New(engine.Config{
		Engine:         c.Engine,
		Loops:          loops,
		ReadTimeout:    c.ReadTimeout,
		WriteTimeout:   c.WriteTimeout,
		Disk:           isFile(c.Store),
		IdleTimeout:    c.IdleTimeout,
		MaxHeaderBytes: int(c.MaxHeaderBytes),
		MaxBodyBytes:   c.MaxBodyBytes,
		MaxConns:       conns,
		Log:            log,
	}, s.counter)
	if err != nil {
		return nil, errors.Join(err, s.counter.Close(ctx))
	}
	if s.adminLn != nil {
		info := buildInfo()
		s.admin = admin.New(admin.Options{
			Version:  info.Version,
			Revision: info.Revision,
			Engine:   c.Engine,
			Store:    storeName(c.Store),
			MaxConns: conns,
			Conns:    adminConns,
			Read:     s.counter.ReadSum,
			Total:    s.counter.Total,
			Traffic:  func() admin.Traffic {
				st := s.engine.Stats()
				return admin.Traffic{Hits: st.Hits, Reads: st.Reads, Unavailable: st.Unavailable, Accepted: st.Accepted,
					Rejected: st.Rejected, AcceptErrors: st.AcceptErrors, Open: st.Open, Refused: st.Refused}
			},
			Commits:  commits,
			Stats:    stats,
			Log:      log,
		})
	}
	return s, nil
}

// spareProcessors is how many processors Go's runtime gets beyond those of the
// machine. An event loop holds one for as long as it has events, so a new
// connection would wait for the acceptor until the runtime's monitor looks, 10 ms
// later. And whoever waits for a store holds one while a disk syncs, and needs
// one when a database answers. The kernel shares out the cores.
func spareProcessors(c *config) (n int) {
	if c.Engine == engine.Gnet {
		n++
	}
	if c.Store != "mem:" {
		n++
	}
	return n
}

// shares tells whether processes take turns on a port: they have a file, which
// one has at a time. Replicas with a database share the port's load instead.
func (s *service) shares() bool {
	return !s.inherited && s.config.ReusePort && isFile(s.config.Store)
}

// openListener takes systemd's socket or opens one, when its turn has come.
func (s *service) openListener(patience context.Context) (err error) {
	c := s.config
	s.ln, err = listen.Inherited()
	if s.ln != nil || err != nil {
		s.inherited = true
		return err
	}
	if s.shares() {
		if err := s.awaitTurn(patience, filePath(c.Store)); err != nil {
			return err
		}
	}
	s.ln, err = listen.Open(c.Listen, c.ReusePort)
	if err != nil {
		return fmt.Errorf("counting listener: %w", err)
	}
	if s.turn != nil {
		return s.turn.Listening()
	}
	return nil
}

// awaitTurn waits until no other process serves the same file on a shared port.
func (s *service) awaitTurn(patience context.Context, file string) error {
	turn, err := listen.NewTurn(file)
	if err != nil {
		return nil // a new store, or opening it will say what is wrong
	}
	if err := takeOver(patience, s.log, "the port", listen.ErrNotNow, turn.Claim); err != nil {
		return errors.Join(fmt.Errorf("store %s: %w", file, err), turn.Close())
	}
	s.turn = turn
	return nil
}

// firstTurn is for a store that was just made: nobody can have been before.
func (s *service) firstTurn(file string) error {
	turn, err := listen.NewTurn(file)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.turn = turn
	if err := turn.Claim(); err != nil {
		return fmt.Errorf("store %s: %w", file, err)
	}
	return turn.Listening()
}

// listenAdmin waits for the port as long as another process holds it and
// patience lasts.
func listenAdmin(patience context.Context, addr string, log *slog.Logger) (net.Listener, error) {
	var ln net.Listener
	err := takeOver(patience, log, "the admin port", syscall.EADDRINUSE, func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w", err)
	}
	return ln, nil
}

// takeOver tries until another process lets go, which busy is the error of, or
// until patience ends.
func takeOver(patience context.Context, log *slog.Logger, what string, busy error, try func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; {
		err := try()
		if err == nil || !errors.Is(err, busy) {
			return err
		}
		// Ticks and patience may both be there; patience first.
		if patience.Err() != nil {
			return err
		}
		if !said {
			log.Info("waiting for another process to let go", "of", what)
			said = true
		}
		select {
		case <-patience.Done():
		case <-tick.C:
		}
	}
}

// run answers until ctx ends, the store is lost, or a listener fails. The error
// is why it can't go on; nil: it was told to stop.
func (s *service) run(ctx context.Context) error {
	served := make(chan error, 2)
	go func() { served <- s.engine.Serve(s.ln) }()
	adminAddr := "off"
	if s.admin != nil {
		adminAddr = s.adminLn.Addr().String()
		go func() { served <- s.admin.Serve(s.adminLn) }()
	}
	s.log.Info("listening", "listen", s.ln.Addr().String(), "admin", adminAddr,
		"engine", s.config.Engine, "store", storeName(s.config.Store))
	notify(s.log, daemon.SdNotifyReady)
	go watchdog(ctx, s.log, func(ctx context.Context) {
		_, _ = s.counter.ReadSum(ctx) // any outcome shows that counting is alive
	})

	select {
	case <-ctx.Done():
		return nil
	case <-s.counter.Lost():
		return s.counter.Err()
	case err := <-served:
		return err
	}
}

// stop drains: new connections go to a newcomer if there is one, what was
// received is answered, the store is closed.
func (s *service) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()
	if s.admin != nil {
		s.admin.Drain()
	}
	s.log.Info("stopping") // who reads that may ask /readyz
	notify(s.log, daemon.SdNotifyStopping)
	if s.turn != nil {
		s.handOver(ctx)
	}
	drained := s.engine.Shutdown(ctx)

	end, _ := ctx.Deadline()
	closeCtx, cancel := context.WithDeadline(context.Background(), later(end, time.Now().Add(closing)))
	defer cancel()
	closed := s.counter.Close(closeCtx)
	if s.admin != nil {
		s.admin.Close() // cuts; what fails then doesn't matter
	}
	return errors.Join(drained, closed)
}

// handOver sends new connections to a newcomer, if there is one.
func (s *service) handOver(ctx context.Context) {
	taken, err := s.turn.Pass(ctx)
	if taken {
		err = listen.Yield(s.ln)
	}
	switch {
	case err != nil:
		s.log.Warn("connections may be reset", "err", err)
	case taken:
		s.log.Info("new connections go to another process")
		time.Sleep(min(handover, s.config.DrainTimeout/4))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

type closer struct{ c *counter.Counter }

func (c closer) Close() error { return c.c.Close(context.Background()) }
