package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/internal/patience"
)

// A deadliner can interrupt its Accept.
type deadliner interface{ SetDeadline(time.Time) error }

// Serve accepts connections from ln until Shutdown, then returns nil, with ln
// closed. Whatever fails while ln itself is there makes it wait, not end. Call it
// once.
func (s *Server) Serve(ln net.Listener) error {
	defer close(s.accepted)
	defer ln.Close()
	s.mu.Lock()
	if s.stopped() {
		// Shutdown was faster, and hasn't waited for us: the model is gone.
		s.mu.Unlock()
		return nil
	}
	s.ln = ln
	s.mu.Unlock()

	var pause patience.Pause
	for !s.stopped() {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause.Reset()
			s.admit(nc)
		case s.stopped():
		case patience.Gone(ln, err):
			return fmt.Errorf("accept: %w", err)
		default:
			s.pause(pause.Next(err), err)
		}
	}
	s.acceptQueued(ln)
	return nil
}

func (s *Server) stopped() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// pause lets the acceptor wait after err; a stop cuts it short.
func (s *Server) pause(d time.Duration, err error) {
	if d == 0 {
		return
	}
	s.stats.acceptErrors.Add(1)
	s.cfg.Log.Warn("accept failed, waiting", "err", err)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stopping:
	}
}

// acceptQueued takes what the kernel has already established for us: those
// clients believe they are connected, and closing the listener would reset
// them. Under constant load new ones keep coming, so it ends after a while.
func (s *Server) acceptQueued(ln net.Listener) {
	dl, ok := ln.(deadliner)
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
	g := before
	if s.draining.Load() {
		g = later
	}
	full := s.open[before]+s.open[later] >= s.cfg.MaxConns || s.doubled > 0 && s.spare() <= 0
	if !full {
		s.open[g]++
	}
	s.mu.Unlock()
	if full {
		s.reject(nc)
		return
	}
	s.stats.accepted.Add(1)
	s.model.serve(nc, g)
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
		nc.SetDeadline(time.Now().Add(silence))
		if _, err := nc.Write(s.sorry()); err == nil && halfClose(nc) == nil {
			readOff(nc, time.Now().Add(silence), &s.draining)
		}
		nc.Close()
	}()
}
