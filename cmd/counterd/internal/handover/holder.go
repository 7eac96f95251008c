package handover

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// Holder is what the process that has the store offers to those who wait. Its methods
// are safe for concurrent use.
type Holder struct {
	log     *slog.Logger
	network string
	listen  string        // as the configuration says it; empty: the socket is systemd's
	sockets chan socket   // brought by waiters, one at most
	given   chan struct{} // closed by Give
	ended   chan struct{} // closed by Release

	ln *net.TCPListener // to be handed over; there once given is closed

	mu       sync.Mutex
	door     *net.UnixListener      // nil: closed, or there is none
	conns    map[*net.UnixConn]bool // true: it waits
	waiting  int
	released bool
	stopping bool
	heir     bool          // somebody waited when Heir asked
	over     bool          // nobody is taken as a waiter any more
	alone    chan struct{} // closed when nobody waits any more after Heir
	handlers sync.WaitGroup
}

// maxWaiters bounds those who wait.
const maxWaiters = 64

// Hold opens the door of the store for those who wait. The caller has its lock, and is
// to listen on listen, or on a socket of systemd's if that is empty. Where the Unix
// socket can't be made, Hold says so and nobody can take over.
func Hold(store, listen string, log *slog.Logger) *Holder {
	h := &Holder{
		log:     log,
		network: network(),
		listen:  listen,
		sockets: make(chan socket, 1),
		given:   make(chan struct{}),
		ended:   make(chan struct{}),
		alone:   make(chan struct{}),
		conns:   map[*net.UnixConn]bool{},
	}
	door, err := bind(store)
	if err != nil {
		log.Warn("no socket can be handed over: a restart will have a gap", "err", err)
		h.over = true
		return h
	}
	h.door = door
	h.handlers.Go(func() { h.accept(door) })
	return h
}

func bind(store string) (*net.UnixListener, error) {
	name, err := Name(store)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(name)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way", name)
	case err == nil:
		err = os.Remove(name) // of a process that died
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	door, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		door.Close()
		return nil, err
	}
	return door, nil
}

// Give hands ln to all who wait and are to listen on the same address, as the
// configuration says it or as it is really bound. ln stays the caller's.
func (h *Holder) Give(ln *net.TCPListener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ln = ln
	close(h.given)
	h.drop() // one that was brought is not needed any more
}

// drop closes a socket that was brought and not taken.
func (h *Holder) drop() {
	select {
	case s := <-h.sockets:
		s.close()
	default:
	}
}

// Brought returns the socket that somebody who waits has brought, or nil if that
// takes longer than patience. It is asked before Give.
func (h *Holder) Brought(patience time.Duration) (*net.TCPListener, error) {
	select {
	case s := <-h.sockets:
		return s.listener()
	case <-time.After(patience):
		return nil, nil
	}
}

// Stopping tells those who wait, now and later, that the holder was told to stop.
func (h *Holder) Stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = true
	for c, waits := range h.conns {
		if waits {
			_ = send(c, reply{Stopping: true}, -1) // a dead one is noticed elsewhere
		}
	}
}

// Heir reports whether somebody waits. If not, nobody will be taken as a waiter.
func (h *Holder) Heir() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heir = h.waiting > 0
	h.over = h.over || !h.heir
	return h.heir
}

// Alone returns a channel that is closed when, after Heir has reported true, nobody
// waits any more. From then on nobody will be taken as a waiter.
func (h *Holder) Alone() <-chan struct{} { return h.alone }

// Close removes the Unix socket. It comes before the lock is let go of. Those who
// wait go on waiting.
func (h *Holder) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.door != nil {
		h.door.Close() // removes the name too
		h.door = nil
	}
}

// Release tells those who wait that the lock is free, and ends all that h has begun.
func (h *Holder) Release() {
	h.Close()
	h.mu.Lock()
	h.released = true
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	close(h.ended)
	h.handlers.Wait()
	h.drop()
}

func (h *Holder) accept(door *net.UnixListener) {
	places := make(chan struct{}, maxWaiters)
	for {
		c, err := door.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for instance
			h.log.Warn("accepting one who would take over failed", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			c.Close() // it will ask again
			continue
		}
		h.handlers.Go(func() {
			defer func() { <-places }()
			defer c.Close()
			if h.enter(c) {
				defer h.leave(c)
				h.serve(c)
			}
		})
	}
}

// serve is the conversation with one who waits, until one of both goes.
func (h *Holder) serve(c *net.UnixConn) {
	if err := sameUser(c); err != nil {
		h.log.Warn("somebody who would take over was sent away", "err", err)
		return
	}
	in := messages{c: c}
	defer func() { in.take().close() }()
	var r request
	if c.SetReadDeadline(time.Now().Add(5*time.Second)) != nil || in.next(&r) != nil {
		return
	}
	h.bring(in.take(), r)
	select {
	case <-h.given:
	case <-h.ended:
		return
	}
	if why := h.refusal(r); why != "" {
		_ = send(c, reply{Refused: why}, -1) // then it asks again
		return
	}
	if !h.await(c, r) {
		return
	}
	_ = c.SetReadDeadline(time.Time{}) // it may wait for days
	for in.next(&r) == nil {
	}
}

// bring keeps a socket for a holder that has none yet.
func (h *Holder) bring(s socket, r request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.given:
		s.close()
		return
	default:
	}
	if !s.ok() || r.Network != h.network || r.Listen != h.listen {
		s.close()
		return
	}
	select {
	case h.sockets <- s:
	default:
		s.close()
	}
}

// refusal says why the one that waits can't have the socket.
func (h *Holder) refusal(r request) string {
	bound := h.ln.Addr().String()
	switch {
	case r.Network != h.network:
		return "the process that has the store is in another network namespace"
	case r.Own || r.Listen == h.listen || r.Listen == bound:
		return ""
	}
	return fmt.Sprintf("the process that has the store listens on %s, not on %s", cmp.Or(h.listen, bound), r.Listen)
}

// enter makes c known, so that Release ends it.
func (h *Holder) enter(c *net.UnixConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return false
	}
	h.conns[c] = false
	return true
}

// await makes c one who waits, and hands it the socket. Whoever comes too late is only
// told that the holder stops.
func (h *Holder) await(c *net.UnixConn, r request) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		// It gets no socket that is about to be closed, and waits for the lock alone.
		return send(c, reply{Stopping: true}, -1) == nil
	}
	if h.hand(c, r) != nil {
		return false
	}
	if h.stopping {
		_ = send(c, reply{Stopping: true}, -1) // a dead one is noticed at once
	}
	h.conns[c] = true
	h.waiting++
	return true
}

func (h *Holder) hand(c *net.UnixConn, r request) error {
	if r.Own {
		return send(c, reply{}, -1)
	}
	raw, err := h.ln.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = send(c, reply{}, int(fd)) })
	return errors.Join(err, serr)
}

func (h *Holder) leave(c *net.UnixConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[c] {
		h.waiting--
	}
	delete(h.conns, c)
	if h.heir && h.waiting == 0 && !h.over {
		h.over = true
		close(h.alone)
	}
}
