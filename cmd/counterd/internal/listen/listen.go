// Package listen opens the counting listener: a new one, one that shares its port
// with other processes, or one that systemd has opened.
package listen

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// ReusePortWorks says that Open can share a port. SO_REUSEPORT means something else
// on every system but Linux.
const ReusePortWorks = runtime.GOOS == "linux"

// Open listens on addr, on IPv4 and IPv6 unless addr names one of them. With
// reusePort, where it works, other processes of the same user may do so too; when one
// of them closes, what is queued at its socket is reset.
func Open(addr string, reusePort bool) (*net.TCPListener, error) {
	lc := net.ListenConfig{
		// The engines have timeouts of their own, so probes would only cost
		// system calls for each connection.
		KeepAlive: -1,
	}
	// Go's default would be an MPTCP socket where the kernel has it: slower to
	// accept from.
	lc.SetMultipathTCP(false)
	if reusePort {
		lc.Control = setReusePort
	}
	ln, err := lc.Listen(context.Background(), network(addr), addr)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// network keeps 0.0.0.0 from meaning IPv6 too, as it does with "tcp".
func network(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// Inherited returns the listener that systemd has opened for this process
// (LISTEN_FDS), or nil if there is none. There must not be more than one.
func Inherited() (*net.TCPListener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil
	}
	if len(files) > 1 {
		return nil, fmt.Errorf("systemd handed over %d sockets, want one", len(files))
	}
	defer files[0].Close() // FileListener has its own duplicate
	ln, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("the descriptor handed over by systemd: %w", err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("systemd handed over a %s socket, want a TCP listener", strings.ToUpper(ln.Addr().Network()))
	}
	return tcp, nil
}

func setReusePort(_, _ string, c syscall.RawConn) (err error) {
	failed := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	return cmp.Or(failed, err)
}
