package blackbox

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

// TestConnectionThatEpollRefusesIsClosed: a connection that epoll refuses, as it does when the user has no
// watches left, is closed and not counted as open for ever.
func TestConnectionThatEpollRefusesIsClosed(t *testing.T) {
	t.Parallel()
	s := start(t, engine.Gnet, counter.NewMem(), func(o *options) {
		o.listen = func(ln net.Listener) net.Listener { return unpollable{ln.(*net.TCPListener)} }
	})
	s.dial().wantEnd()
	wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
	s.shutdown()
}

// unpollable puts a regular file in place of each connection's socket: epoll
// refuses those.
type unpollable struct{ *net.TCPListener }

func (l unpollable) Accept() (net.Conn, error) {
	nc, err := l.TCPListener.Accept()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(os.Args[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	err1 := raw.Control(func(fd uintptr) { err = unix.Dup3(int(f.Fd()), int(fd), 0) })
	if err1 != nil {
		err = err1
	}
	return nc, err
}
