package blackbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// client is one connection to a server.
type client struct {
	t testing.TB
	*net.TCPConn
	r    *bufio.Reader
	sent atomic.Int64 // bytes, by endless
}

func (s *server) dial() *client {
	s.t.Helper()
	return dial(s.t, s.addr)
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := connect(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.t = t
	t.Cleanup(func() { c.Close() })
	return c
}

// connect is dial for goroutines that may not end the test.
func connect(addr string) (*client, error) {
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &client{TCPConn: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
	return c, c.SetDeadline(time.Now().Add(4 * patience)) // of the whole connection
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// halfClose sends FIN: the client has said all it wants to.
func (c *client) halfClose() {
	c.t.Helper()
	if err := c.CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// reset closes the connection with RST.
func (c *client) reset() {
	c.SetLinger(0)
	c.Close()
}

// answer is what a server said.
type answer struct {
	status int
	fields http.Header
	body   string
	close  bool // it says Connection: close
}

// number is the body's, or -1.
func (a answer) number() int64 {
	s, ok := strings.CutSuffix(a.body, "\n")
	n, err := strconv.ParseInt(s, 10, 64)
	if a.status != 200 || !ok || err != nil || strconv.FormatInt(n, 10) != s {
		return -1
	}
	return n
}

// read reads one answer to a request of the given method. io.EOF tells that
// the connection ended where an answer might begin.
func (c *client) read(method string) (answer, error) {
	var a answer
	var minor int // net/http answers HTTP/1.0 in kind
	tp := textproto.NewReader(c.r)
	if _, err := c.r.Peek(1); err != nil {
		return a, err
	}
	line, err := tp.ReadLine()
	if err != nil {
		return a, unexpected(err)
	}
	if _, err := fmt.Sscanf(line, "HTTP/1.%d %d ", &minor, &a.status); err != nil {
		return a, fmt.Errorf("status line %q: %w", line, err)
	}
	fields, err := tp.ReadMIMEHeader()
	if err != nil {
		return a, unexpected(err)
	}
	a.fields = http.Header(fields)
	a.close = a.fields.Get("Connection") == "close" || minor == 0 && a.fields.Get("Connection") == ""
	if method == "HEAD" || a.status == 100 {
		return a, nil
	}
	if a.fields.Get("Content-Length") == "" && a.close {
		body, err := io.ReadAll(c.r) // net/http's own errors
		a.body = string(body)
		return a, err
	}
	n, err := strconv.Atoi(a.fields.Get("Content-Length"))
	if err != nil {
		return a, fmt.Errorf("answer without length: %w", err)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	a.body = string(body)
	return a, unexpected(err)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *client) answer(method string) answer {
	c.t.Helper()
	a, err := c.read(method)
	if err != nil {
		c.t.Fatalf("answer: %v", err)
	}
	return a
}

// want reads an answer that must have this status.
func (c *client) want(status int) answer {
	c.t.Helper()
	a := c.answer("GET")
	if a.status != status {
		c.t.Fatalf("status %d %q, want %d", a.status, a.body, status)
	}
	return a
}

// wantNumber reads a 200 that must show n.
func (c *client) wantNumber(n int64) answer {
	c.t.Helper()
	a := c.want(200)
	if a.number() != n {
		c.t.Fatalf("answer %q, want %d", a.body, n)
	}
	return a
}

// wantEnd waits for the server to close, without another byte.
func (c *client) wantEnd() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 {
		c.t.Fatalf("more than was to come: %.300q", rest)
	}
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("not closed: %v", err)
	}
}

// hits reads answers until the connection ends. They must be numbers, each one
// above the one before it. It returns how many there were, and the last.
func (c *client) hits() (n int, last answer) {
	c.t.Helper()
	for {
		a, err := c.read("GET")
		if errors.Is(err, io.EOF) {
			return n, last
		}
		if err != nil {
			c.t.Fatalf("after %d answers: %v", n, err)
		}
		if a.number() < 0 || n > 0 && a.number() <= last.number() {
			c.t.Fatalf("answer %d is %d %q after %q", n+1, a.status, a.body, last.body)
		}
		if n > 0 && last.close {
			c.t.Fatalf("an answer after one that says close")
		}
		n, last = n+1, a
	}
}

// request returns a request without a body.
func request(method, target string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a\r\n", method, target)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String() + "\r\n"
}

var (
	get   = request("GET", "/")
	count = request("GET", "/count")
	final = request("GET", "/", "Connection: close")
)
