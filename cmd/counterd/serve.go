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
	"github.com/counterd/counterd/cmd/counterd/internal/handover"
	"github.com/counterd/counterd/cmd/counterd/internal/listen"
	"github.com/counterd/counterd/cmd/counterd/internal/logs"
	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

const (
	// closing is what the store may take to close after a drain that has used
	// up its time: what it holds back with --sync=DURATION is worth a moment.
	closing = time.Second

	// lastLines is what the last lines of the log may take to be written.
	lastLines = 500 * time.Millisecond

	// orphaned is how long a newcomer that got the store without having asked for its
	// socket waits for those who have the socket.
	orphaned = time.Second

	// adminPatience is how long the start-up line waits for the admin port of a
	// process that is ending.
	adminPatience = 5 * time.Second
)

// errLogged is a failure that is in the log already.
var errLogged = errors.New("logged")

// serve runs the server until a signal. A second signal ends the process. unknown are
// variables that look like counterd's and are none.
func serve(ctx context.Context, c *config, unknown []string) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	log, lines := logs.New(os.Stderr, c.LogFormat == "json", level)
	defer lines.Flush(lastLines)
	slog.SetDefault(log)
	// Whoever reads the log may go away; counting goes on.
	signal.Ignore(syscall.SIGPIPE)
	if len(unknown) > 0 {
		log.Warn("variables that no flag has are ignored", "names", strings.Join(unknown, " "))
	}
	ctx, cancel := untilSignal(ctx, func() {
		log.Error("second signal, not waiting any longer")
		lines.Flush(lastLines)
		os.Exit(exitFailed)
	})
	defer cancel()

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
	count, err := s.stop(cause == nil)
	switch {
	case cause != nil: // whatever else fails then follows from it
		log.Error("cannot go on", "err", oneLine(cause))
		return errLogged
	case err != nil:
		log.Error("did not stop cleanly", "err", oneLine(err))
		return errLogged
	}
	log.Info("stopped", "count", count)
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

// service is a counterd whose listener and store are open.
type service struct {
	config  *config
	log     *slog.Logger
	store   *opened
	heirs   *handover.Holder // nil: the store isn't one that is handed over
	ln      *net.TCPListener
	counter *counter.Counter // owns the store
	engine  *engine.Server
	count   int64      // that the store held at the start
	served  chan error // why the engine doesn't accept any more

	life context.Context // of what looks after the server; it ends after the drain
	end  context.CancelFunc

	admin   *admin.Server // nil: off
	adminLn net.Listener  // nil: another process may have its port still
}

// start opens everything: first the store, so that whoever waits for it has disturbed
// nobody; then the counting listener; then the admin listener.
func start(ctx context.Context, c *config, log *slog.Logger) (_ *service, err error) {
	s := &service{config: c, log: log, served: make(chan error, 1)}
	s.life, s.end = context.WithCancel(context.Background())
	commits := admin.NewCommits()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abandon())
		}
	}()
	if err := s.open(ctx, watchers{commits, log}); err != nil {
		return nil, err
	}
	if c.Admin != "" && c.TakeoverTimeout == 0 {
		if s.adminLn, err = net.Listen("tcp", c.Admin); err != nil {
			return nil, fmt.Errorf("admin listener: %w", err)
		}
	}
	loops := cmp.Or(c.Loops, runtime.GOMAXPROCS(0)) // without the spare ones
	tune(c)
	conns, most, adminConns := share(descriptors(), engine.Descriptors(c.Engine, loops))
	conns = cmp.Or(c.MaxConns, conns)
	s.counter = s.store.counter(counter.Options{Timeout: c.StoreTimeout, Observe: commits.Observe})
	if s.count, err = s.counter.ReadSum(ctx); err != nil {
		return nil, fmt.Errorf("reading the count: %w", err)
	}
	cfg := c.Config
	cfg.Loops, cfg.MaxConns, cfg.MaxDescriptors = loops, conns, most
	cfg.Disk, cfg.PerPath, cfg.Log = c.kind().local(), c.Per == perPath, log
	if s.engine, err = engine.New(cfg, s.counter); err != nil {
		return nil, err
	}
	if c.Admin != "" {
		info := buildInfo()
		s.admin = admin.New(admin.Options{
			Version:  info.Version,
			Revision: info.Revision,
			Engine:   c.Engine,
			Store:    c.storeName(),
			MaxConns: conns,
			Conns:    adminConns,
			Read:     s.counter.ReadSum,
			Ready:    func(context.Context) error { return s.refusing() },
			Total:    s.counter.Total,
			Traffic:  func() admin.Traffic { return admin.Traffic(s.engine.Stats()) },
			Commits:  commits,
			Stats:    s.store.stats,
			Log:      log,
			Counters: s.lister(),
		})
	}
	return s, nil
}

// lister shows the counters, where there are many.
func (s *service) lister() counter.Lister {
	l, _ := s.store.store.(counter.Lister)
	if s.config.Per != perPath {
		return nil
	}
	return l
}

// open opens the store and the counting listener. If another process has the store,
// it waits for that to let go and takes over its socket.
func (s *service) open(ctx context.Context, w watchers) (err error) {
	c, k := s.config, s.config.kind()
	if s.ln, err = listen.Inherited(); err != nil {
		return err
	}
	take := func() error {
		store, err := k.open(ctx, c, w)
		if err == nil {
			s.store = store
		}
		return err
	}
	if !k.local() {
		if err := take(); err != nil {
			return err
		}
		return s.openListener()
	}
	waiter := &handover.Waiter{
		Store:    k.path(c.Store),
		Listen:   c.Listen,
		Own:      s.ln != nil,
		Patience: c.TakeoverTimeout,
		Log:      s.log,
	}
	defer waiter.Close()
	if err := waiter.Wait(ctx, k.busy, take); err != nil {
		return err
	}
	listening := c.Listen
	if s.ln != nil {
		listening = "" // which says nothing about systemd's socket
	}
	s.heirs = handover.Hold(k.path(c.Store), listening, s.log)
	if s.ln == nil {
		if s.ln, err = waiter.Listener(); err != nil {
			return err
		}
	}
	if err := s.openListener(); err != nil {
		return err
	}
	s.heirs.Give(s.ln)
	return nil
}

// openListener opens the counting listener, unless there is one. A port that is taken
// may be that of a process that died, kept open by those who wait for the store: they
// bring it.
func (s *service) openListener() (err error) {
	c := s.config
	for end := time.Now().Add(orphaned); s.ln == nil; {
		s.ln, err = listen.Open(c.Listen, c.sharesPort())
		if err == nil {
			return nil
		}
		if s.heirs == nil || c.TakeoverTimeout == 0 || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return fmt.Errorf("counting listener: %w", err)
		}
		if s.ln, err = s.heirs.Brought(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// abandon closes what start has opened.
func (s *service) abandon() (err error) {
	s.end()
	if s.ln != nil {
		s.ln.Close()
	}
	if s.adminLn != nil {
		s.adminLn.Close()
	}
	if s.heirs != nil {
		s.heirs.Close()
		defer s.heirs.Release()
	}
	switch {
	case s.counter != nil:
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		return s.counter.Close(ctx)
	case s.store != nil:
		return s.store.store.Close()
	}
	return nil
}

// run answers until ctx ends, and for --drain-delay after that, or until the store is
// lost or the listener fails. The error is why it can't go on; nil: it was told to
// stop.
func (s *service) run(ctx context.Context) error {
	go func() { s.served <- s.engine.Serve(s.ln) }()
	go s.announce(ctx)
	go s.watch(s.life)

	cause := s.until(ctx)
	s.stopping()
	if cause != nil {
		return cause
	}
	delay, cancel := context.WithTimeout(context.Background(), s.config.DrainDelay)
	defer cancel()
	return s.until(delay)
}

// until waits for the end of ctx, or of what the server can't do without.
func (s *service) until(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.counter.Lost():
		return s.counter.Err()
	case err := <-s.served:
		return err
	}
}

// announce says that it counts, once the admin port is there too.
func (s *service) announce(ctx context.Context) {
	addr := "off"
	if s.admin != nil {
		bound, told := make(chan string, 1), make(chan struct{})
		defer close(told)
		go s.serveAdmin(ctx, bound, told)
		select {
		case addr = <-bound:
		case <-time.After(adminPatience):
			addr = "not yet"
		case <-ctx.Done():
			return
		}
	}
	s.log.Info("listening", "listen", s.ln.Addr().String(), "admin", addr,
		"engine", s.config.Engine, "store", s.config.storeName(), "count", s.count)
	notify(s.log, daemon.SdNotifyReady)
	watchdog(s.life, s.log, func(ctx context.Context) {
		_, _ = s.counter.ReadSum(ctx) // any outcome shows that counting is alive
	})
}

// serveAdmin serves the admin listener. Another process may still have its port; that
// it can't be had, or fails, never ends counting.
func (s *service) serveAdmin(ctx context.Context, bound chan<- string, told <-chan struct{}) {
	ln := s.adminLn
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 10*look) {
		var err error
		if ln == nil {
			ln, err = net.Listen("tcp", s.config.Admin)
		}
		if err == nil {
			select {
			case <-told:
				s.log.Info("the admin listener is there", "admin", ln.Addr().String())
			default:
				bound <- ln.Addr().String() // there is room for one
			}
			if err = s.admin.Serve(ln); err == nil {
				return // it was closed
			}
			ln = nil
		}
		if pause >= look { // it isn't the end of another process
			s.log.Warn("no admin listener; counting goes on", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// stopping says everywhere that it was told to stop.
func (s *service) stopping() {
	if s.admin != nil {
		s.admin.Drain()
	}
	if s.heirs != nil {
		s.heirs.Stopping()
	}
	s.log.Info("stopping") // who reads that may ask /readyz
	notify(s.log, daemon.SdNotifyStopping)
}

// stop drains: what was received is answered, and the store is closed. If all is well,
// it doesn't leave clients without an answer until another process has the store. It
// returns the count that was reached.
func (s *service) stop(well bool) (count int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()
	if well && s.heirs != nil && s.heirs.Heir() {
		s.retire(ctx)
	}
	drained := s.engine.Shutdown(ctx)
	s.end()

	end, _ := ctx.Deadline()
	closeCtx, cancel := context.WithTimeout(context.Background(), max(time.Until(end), closing))
	defer cancel()
	count = s.counter.Total()
	var read error
	if s.config.kind().shared { // others may have counted since
		count, read = s.counter.ReadSum(closeCtx)
	}
	if s.heirs != nil {
		within(closeCtx, s.heirs.Close)
	}
	closed := s.counter.Close(closeCtx)
	if s.heirs != nil {
		within(closeCtx, s.heirs.Release)
	}
	s.engine.Close(ctx) // nobody waits for that: another process has the store by now
	if s.admin != nil {
		s.admin.Close() // cuts; what fails then doesn't matter
	}
	return count, errors.Join(drained, read, closed)
}

// within calls f, which may wait for a disk that hangs, and waits for it no longer than
// until ctx ends.
func within(ctx context.Context, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// retire answers what is under way while new connections are answered too: whoever
// takes over can't before the store is free. It ends early when nobody waits any more,
// and leaves time to answer what has come in the end.
func (s *service) retire(ctx context.Context) {
	end, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(ctx, end.Add(-min(500*time.Millisecond, s.config.DrainTimeout/4)))
	defer cancel()
	go func() {
		select {
		case <-s.heirs.Alone():
			cancel()
		case <-ctx.Done():
		}
	}()
	s.log.Info("another process takes over")
	_ = s.engine.Retire(ctx) // what is left is Shutdown's
}
