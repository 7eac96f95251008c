package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	// drainWithin bounds the wait for the last answers, and for the sending of
	// what fell due and found no free connection.
	drainWithin = 5 * time.Second
	answerSize  = 4 << 10
)

// sender is a single thread that sends on time and reads in between. It spins:
// a sleep would be late by more than the latencies it is to measure.
type sender struct {
	epoll   int
	request []byte
	conns   []openConn
	idle    ring
	events  [256]unix.EpollEvent

	start    time.Time
	latency  *hdrhistogram.Histogram // ns
	lag      *hdrhistogram.Histogram // ns
	answered int64
	bad      int64
}

type openConn struct {
	fd     int32
	due    int64 // when the request on its way fell due, ns since start; -1: none is
	idleAt int64 // when the connection became free
	have   int
	buf    []byte
}

// ring is a first-in first-out queue of connections, so that all take part.
type ring struct {
	items      []int32
	head, size int
}

func (r *ring) push(i int32) {
	r.items[(r.head+r.size)%len(r.items)] = i
	r.size++
}

func (r *ring) pop() int32 {
	i := r.items[r.head]
	r.head = (r.head + 1) % len(r.items)
	r.size--
	return i
}

// Send makes rate requests per second at even intervals for d over conns
// connections, one request at a time on each. A request that finds none free
// waits, and its wait is part of its latency.
func Send(addr string, rate float64, conns int, d time.Duration) (Result, error) {
	if rate <= 0 || conns <= 0 || d <= 0 {
		return Result{}, errors.New("rate, connections and duration must be above zero")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // no pauses of our own

	s, err := newSender(addr, conns)
	if err != nil {
		return Result{}, err
	}
	defer s.close()

	due := int64(rate * d.Seconds())
	interval := float64(time.Second) / rate
	deadline := int64(d + drainWithin)
	s.start = time.Now()
	sent := int64(0)
	now := int64(0)
	for now < deadline && s.answered+s.bad < due {
		now = s.now()
		for sent < due && s.idle.size > 0 {
			at := int64(float64(sent) * interval)
			if at > now {
				break
			}
			if err := s.send(at); err != nil {
				return Result{}, err
			}
			sent++
		}
		if err := s.receive(); err != nil {
			return Result{}, err
		}
	}
	s.chargeUnanswered()
	r := s.result()
	r.InFlight = sent - s.answered
	r.Backlog = due - sent
	return r, nil
}

func newSender(addr string, n int) (*sender, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	s := &sender{
		epoll:   epoll,
		request: fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", addr),
		conns:   make([]openConn, n),
		idle:    ring{items: make([]int32, n)},
		latency: hdrhistogram.New(1, int64(time.Minute), 3),
		lag:     hdrhistogram.New(1, int64(time.Minute), 3),
	}
	for i := range s.conns {
		fd, err := dialFD(addr)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("connection %d of %d to %s: %w", i+1, n, addr, err)
		}
		s.conns[i] = openConn{fd: int32(fd), due: -1, buf: make([]byte, answerSize)}
		s.idle.push(int32(i))
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			s.close()
			return nil, fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return s, nil
}

// dialFD returns a connected, non-blocking socket without Nagle's delay.
func dialFD(addr string) (int, error) {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.SetNonblock(fd, true)
}

func (s *sender) close() {
	for _, c := range s.conns {
		if c.fd != 0 {
			unix.Close(int(c.fd))
		}
	}
	unix.Close(s.epoll)
}

func (s *sender) now() int64 { return int64(time.Since(s.start)) }

// The system calls go past the Go scheduler: none of them blocks, and telling
// the scheduler each time would cost more than some of them.

func (s *sender) send(due int64) error {
	i := s.idle.pop()
	c := &s.conns[i]
	c.due = due
	if c.idleAt <= due { // we had a connection in time: what is late is our own
		_ = s.lag.RecordValue(max(s.now()-due, 1))
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(c.fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(s.request))), uintptr(len(s.request)))
	if errno != 0 || int(n) != len(s.request) {
		return fmt.Errorf("send a request: %d of %d bytes, %w", int(n), len(s.request), errno)
	}
	return nil
}

func (s *sender) receive() error {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll),
		uintptr(unsafe.Pointer(&s.events[0])), uintptr(len(s.events)), 0, 0, 0)
	if errno == unix.EINTR {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("epoll_wait: %w", errno)
	}
	for _, ev := range s.events[:n] {
		if err := s.read(ev.Fd); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) read(i int32) error {
	c := &s.conns[i]
	room := c.buf[c.have:]
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(room))), uintptr(len(room)))
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("read an answer: %w", errno)
	}
	if n == 0 {
		return fmt.Errorf("read an answer: %w", io.ErrUnexpectedEOF)
	}
	c.have += int(n)
	size, ok, err := answer(c.buf[:c.have])
	if err != nil || size == 0 {
		return err
	}
	if size != c.have {
		return fmt.Errorf("%d bytes after an answer that nobody asked for", c.have-size)
	}
	now := s.now()
	_ = s.latency.RecordValue(max(now-c.due, 1))
	if ok {
		s.answered++
	} else {
		s.bad++
	}
	c.have = 0
	c.due = -1
	c.idleAt = now
	s.idle.push(i)
	return nil
}

// chargeUnanswered takes the time that a request has waited so far for its
// latency: the longest waits must not be missing from the percentiles.
func (s *sender) chargeUnanswered() {
	now := s.now()
	for _, c := range s.conns {
		if c.due >= 0 {
			_ = s.latency.RecordValue(max(now-c.due, 1))
		}
	}
}

var (
	endOfHead     = []byte("\r\n\r\n")
	contentLength = []byte("Content-Length: ")
	statusOK      = []byte("HTTP/1.1 200 ")
)

// answer returns the size of the answer that b holds, 0 while it is not
// complete, and whether its status is 200.
func answer(b []byte) (size int, ok bool, err error) {
	head := bytes.Index(b, endOfHead)
	if head < 0 {
		if len(b) == answerSize {
			return 0, false, errors.New("an answer's head is beyond 4 KiB")
		}
		return 0, false, nil
	}
	at := bytes.Index(b[:head], contentLength)
	if at < 0 {
		return 0, false, errors.New("an answer has no Content-Length")
	}
	body := 0
	for _, digit := range b[at+len(contentLength) : head] {
		if digit < '0' || digit > '9' {
			break
		}
		body = 10*body + int(digit-'0')
	}
	size = head + len(endOfHead) + body
	if size > answerSize {
		return 0, false, errors.New("an answer is beyond 4 KiB")
	}
	if len(b) < size {
		return 0, false, nil
	}
	return size, bytes.HasPrefix(b, statusOK), nil
}

func (s *sender) result() Result {
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	h := s.latency
	r := Result{
		Requests: s.answered,
		Elapsed:  time.Since(s.start),
		Lag:      us(s.lag.ValueAtQuantile(99)),
		Errors:   Errors{Status: s.bad},
		Latency: Latency{
			Mean: h.Mean() / 1e3,
			P50:  us(h.ValueAtQuantile(50)),
			P90:  us(h.ValueAtQuantile(90)),
			P99:  us(h.ValueAtQuantile(99)),
			P999: us(h.ValueAtQuantile(99.9)),
			Max:  us(h.Max()),
		},
	}
	r.RPS = float64(r.Requests) / r.Elapsed.Seconds()
	return r
}
