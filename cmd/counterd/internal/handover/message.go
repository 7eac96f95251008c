package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// request is what a waiter says first. A socket may come with it.
type request struct {
	Listen  string `json:"listen"`            // as --listen says it
	Network string `json:"network,omitempty"` // namespace; empty where there are none
	Own     bool   `json:"own,omitempty"`     // it has a socket of its own, from systemd
}

// reply is what the holder says: first whether it agrees, and with it comes the
// socket; later that it was told to stop.
type reply struct {
	Refused  string `json:"refused,omitempty"` // why not
	Stopping bool   `json:"stopping,omitempty"`
}

// errForeign says that the process at the other end is of another user.
var errForeign = errors.New("it belongs to another user")

// sameUser checks who is at the other end of c.
func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var uid int
	var perr error
	if err := raw.Control(func(fd uintptr) { uid, perr = peer(int(fd)) }); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("asking who is at the other end: %w", perr)
	}
	if uid != os.Geteuid() {
		return errForeign
	}
	return nil
}

// network names the network namespace of this process.
func network() string {
	name, _ := os.Readlink("/proc/self/ns/net") // there is none elsewhere
	return name
}

// messages are what comes on a connection. They are not safe for concurrent use.
type messages struct {
	c      *net.UnixConn
	buf    []byte
	socket socket // the last that came and that nobody took
}

// maxMessage bounds what one side makes the other keep.
const maxMessage = 4 << 10

// next reads a message into v.
func (m *messages) next(v any) error {
	for {
		if i := bytes.IndexByte(m.buf, '\n'); i >= 0 {
			line := m.buf[:i]
			m.buf = m.buf[i+1:]
			return json.Unmarshal(line, v)
		}
		if len(m.buf) > maxMessage {
			return errors.New("a message is too long")
		}
		if err := m.read(); err != nil {
			return err
		}
	}
}

func (m *messages) read() error {
	var data [512]byte
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := m.c.ReadMsgUnix(data[:], oob)
	if err != nil {
		return err
	}
	for _, s := range sockets(oob[:oobn]) {
		m.socket.close()
		m.socket = s
	}
	m.buf = append(m.buf, data[:n]...)
	return nil
}

// take returns the socket that came with the last message; the caller owns it.
func (m *messages) take() socket {
	s := m.socket
	m.socket = socket{}
	return s
}

// send writes v, with a descriptor beside it unless it is negative. It doesn't wait
// for a process that stands still.
func send(c *net.UnixConn, v any, fd int) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, _, err = c.WriteMsgUnix(append(line, '\n'), rights, nil)
	return err
}

// socket is a listening socket that isn't used yet: no poller knows of it, so it
// costs nothing while another process accepts from it. The zero value is none.
type socket struct {
	fd int // plus 1
}

func (s socket) ok() bool { return s.fd > 0 }

func (s socket) number() int { return s.fd - 1 }

func (s socket) close() {
	if s.ok() {
		_ = unix.Close(s.number()) // nothing is lost with it
	}
}

// listener makes s ready to accept. s is used up.
func (s socket) listener() (*net.TCPListener, error) {
	f := os.NewFile(uintptr(s.number()), "handed over")
	defer f.Close() // the listener has its own
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket that was handed over: %w", err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("a %s socket was handed over, want a TCP listener", ln.Addr().Network())
	}
	return tcp, nil
}

// sockets are the descriptors in a control message.
func sockets(oob []byte) (all []socket) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			all = append(all, socket{fd + 1})
		}
	}
	return all
}
