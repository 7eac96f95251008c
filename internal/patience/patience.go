// Package patience says what to do when a listener's Accept fails: wait and try
// again, unless the listener itself is gone. accept(2) returns errors of the
// network, of a shortage and of filters, none of which is a reason to end.
package patience

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shortest = 5 * time.Millisecond
	longest  = time.Second
)

// Pause is how long to wait before the next Accept: longer with each failure in a
// row. The zero value has seen none.
type Pause struct{ last time.Duration }

// Next returns the pause after err. It is 0 where the client has gone or a signal
// came, since then the next Accept may succeed at once.
func (p *Pause) Next(err error) time.Duration {
	if errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EINTR) {
		return 0
	}
	p.last = min(max(2*p.last, shortest), longest)
	return p.last
}

// Reset is called when an Accept has succeeded.
func (p *Pause) Reset() { p.last = 0 }

// Gone reports whether ln can't accept any more: it was closed, or its descriptor
// is no listening socket. A listener that isn't a socket is gone with its first
// error.
func Gone(ln net.Listener, err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	listening := 0
	err = raw.Control(func(fd uintptr) {
		listening, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	})
	return err != nil || listening == 0
}
