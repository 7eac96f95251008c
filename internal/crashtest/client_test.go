package crashtest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// request is what the load is made of.
type request struct {
	hit   bool
	of    int // the number of the counter, or theSum
	bytes []byte
}

// shape is a kind of hit.
type shape struct{ method, path, query, rest string }

var shapes = []shape{
	{"GET", "/", "", "\r\n"},
	{"GET", "/page", "?q=1", "User-Agent: crashtest\r\nAccept: */*\r\n\r\n"},
	{"POST", "/form", "", "Content-Length: 11\r\n\r\nhello world"},
	{"PUT", "/blob", "", "Content-Length: 3000\r\n\r\n" + strings.Repeat("x", 3000)},
	{"POST", "/stream", "", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nSum: 1\r\n\r\n"},
	{"POST", "/stream", "", "Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + strings.Repeat("y", 2000) + "\r\n0\r\n\r\n"},
}

// on is a hit on a counter.
func (s shape) on(name string) []byte {
	return []byte(s.method + " " + cmp.Or(name, s.path) + s.query + " HTTP/1.1\r\nHost: t\r\n" + s.rest)
}

func readOf(name string) []byte { return []byte("GET /count" + name + " HTTP/1.1\r\nHost: t\r\n\r\n") }

// load is many clients that hit and read as fast as they are answered.
type load struct {
	addr  string
	names []string // of the counters
	conns int
	limit int64 // of requests; 0: none

	// reconnect: a client whose connection ends begins a new one.
	reconnect bool

	clock       *clock
	budget      atomic.Int64
	next        atomic.Int64 // connection number
	mu          sync.Mutex
	ops         []op
	unavailable int
	wrong       error // an answer that no crash excuses
}

// clock gives the times of a run.
type clock struct{ start time.Time }

func (c *clock) now() int64 { return int64(time.Since(c.start)) + 1 }

// run hits until ctx ends, and without reconnect at the latest when all
// connections have ended.
func (l *load) run(ctx context.Context, seed uint64) {
	l.budget.Store(l.limit)
	var wg sync.WaitGroup
	for i := range l.conns {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for {
				if l.connection(ctx, r) && l.reconnect && ctx.Err() == nil {
					continue
				}
				if !l.reconnect || ctx.Err() != nil {
					return
				}
				time.Sleep(time.Millisecond) // refused: the server is down
			}
		})
	}
	wg.Wait()
}

// take returns what was recorded so far.
func (l *load) take() ([]op, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ops := l.ops
	l.ops = nil
	return ops, l.wrong
}

// connection is the life of one connection. It returns false if there was none.
func (l *load) connection(ctx context.Context, r *rand.Rand) bool {
	nc, err := net.Dial("tcp", l.addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	c := &conn{load: l, Conn: nc, in: bufio.NewReader(nc), number: int(l.next.Add(1))}
	for ctx.Err() == nil {
		batch := l.pick(r)
		if batch == nil {
			<-ctx.Done() // as many requests as wanted were sent; wait to be cut
			return true
		}
		if err := c.exchange(batch, r); err != nil {
			return true
		}
	}
	return true
}

// pick chooses what is sent next: one request or a few, pipelined.
func (l *load) pick(r *rand.Rand) []request {
	n := 1
	if r.IntN(3) == 0 {
		n += r.IntN(8)
	}
	if l.limit > 0 && l.budget.Add(-int64(n)) < 0 {
		return nil
	}
	batch := make([]request, n)
	for i := range batch {
		batch[i] = l.one(r)
	}
	return batch
}

func (l *load) one(r *rand.Rand) request {
	// Some counters are much in demand, most are not.
	u := r.Float64()
	of := int(u * u * u * float64(len(l.names)))
	name := l.names[of]
	switch {
	case r.IntN(4) > 0:
		return request{true, of, shapes[r.IntN(len(shapes))].on(name)}
	case name == "" || r.IntN(2) > 0:
		return request{false, of, readOf(name)}
	default:
		return request{false, theSum, readOf("")}
	}
}

type conn struct {
	net.Conn
	load   *load
	in     *bufio.Reader
	number int
	sent   int // requests
}

var errLast = errors.New("the server has ended the connection")

// exchange sends a batch and reads its answers. What isn't answered is recorded
// as unknown, hits with 503 too.
func (c *conn) exchange(batch []request, r *rand.Rand) error {
	var out []byte
	ops := make([]op, len(batch))
	for i, q := range batch {
		out = append(out, q.bytes...)
		c.sent++
		ops[i] = op{hit: q.hit, of: q.of, conn: c.number, nth: c.sent, ret: never}
	}
	parts := [][]byte{out}
	if r.IntN(4) == 0 { // in two pieces, at any byte
		at := r.IntN(len(out))
		parts = [][]byte{out[:at], out[at:]}
	}
	call := c.load.clock.now()
	for i := range ops {
		ops[i].call = call
	}
	var err error
	for _, part := range parts {
		if _, err = c.Write(part); err != nil {
			break
		}
	}
	// Even if the write failed: answers may be there.
	unavailable := 0
	for i := range ops {
		var a answer
		if a, err = c.answer(); err != nil {
			break
		}
		switch a.status {
		case 200:
			ops[i].value, ops[i].ret = a.value, c.load.clock.now()
		case 503:
			unavailable++
		default:
			err = fmt.Errorf("status %d to %q", a.status, batch[i].bytes)
			c.load.complain(err)
		}
		if a.last {
			err = errLast
		}
		if err != nil {
			break
		}
	}
	c.load.record(ops, unavailable)
	return err
}

func (l *load) record(ops []op, unavailable int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, ops...)
	l.unavailable += unavailable
}

func (l *load) complain(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong == nil {
		l.wrong = err
	}
}

type answer struct {
	status int
	value  int64
	last   bool // Connection: close
}

// answer reads one answer. It is strict: what isn't exactly as promised is an
// error that the load complains about, but a connection that ends isn't.
func (c *conn) answer() (answer, error) {
	var a answer
	line, err := c.line()
	if err != nil {
		return a, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return a, c.malformed("status line %q", line)
	}
	a.status, _ = strconv.Atoi(string(line[9:12]))
	length := -1
	for {
		line, err := c.line()
		if err != nil {
			return a, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, _ = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Connection")):
			a.last = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 1 {
		return a, c.malformed("an answer without a body")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return a, err
	}
	if a.status != 200 {
		return a, nil
	}
	a.value, err = strconv.ParseInt(string(bytes.TrimSuffix(body, []byte("\n"))), 10, 64)
	if err != nil || body[length-1] != '\n' {
		return a, c.malformed("body %q", body)
	}
	return a, nil
}

func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), err
}

func (c *conn) malformed(format string, args ...any) error {
	err := fmt.Errorf("malformed: "+format, args...)
	c.load.complain(err)
	return err
}

// readCounts asks for the counts and their sum, on a connection of its own.
func readCounts(addr string, names []string) (counts []int64, sum int64, err error) {
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, 0, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	c := &conn{load: &load{}, Conn: nc, in: bufio.NewReader(nc)}
	for some := range slices.Chunk(append(slices.Clip(names), ""), 100) {
		var out []byte
		for _, name := range some {
			out = append(out, readOf(name)...)
		}
		if _, err := nc.Write(out); err != nil {
			return nil, 0, err
		}
		for range some {
			a, err := c.answer()
			if err == nil && a.status != 200 {
				err = fmt.Errorf("status %d to a read", a.status)
			}
			if err != nil {
				return nil, 0, err
			}
			counts = append(counts, a.value)
		}
	}
	last := len(counts) - 1
	return counts[:last], counts[last], nil
}
