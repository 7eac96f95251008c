package blackbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

func TestHalfClose(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		for i := range 50 {
			c := s.dial()
			c.send(get + count)
			c.halfClose()
			c.wantNumber(int64(i) + 1)
			c.wantNumber(int64(i) + 1)
			c.wantEnd()
		}
	})
}

// The client has closed its half long before the store answers.
func TestHalfCloseBeforeCommit(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		for _, n := range []int{1, 2, 127, 128, 129, 1000, 5000} {
			store := &scripted{}
			s := start(t, name, store, func(o *options) { o.Loops, o.storeTimeout = 1, patience })
			release := store.hold()
			c := s.dial()
			c.send(strings.Repeat(get, n))
			c.halfClose()
			wait(t, "the store is asked", func() bool { return store.asked() > 0 })
			// When this one has its answer, the loop has seen the FIN before it.
			other := s.dial()
			other.send("GET /\r\n\r\n")
			other.want(400)
			release()
			if got, _ := c.hits(); got != n {
				t.Errorf("%d of %d answers", got, n)
			}
			wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
			if total := s.count(); total != int64(n) {
				t.Errorf("counted %d of %d", total, n)
			}
		}
	})
}

// A drain finds a client that has closed its half and waits: it is told that this
// is the end, by either engine.
func TestHalfCloseBeforeDrain(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, func(o *options) { o.Loops, o.storeTimeout = 1, patience })
		idle := s.dial()
		idle.send(get)
		idle.wantNumber(1)
		release := store.hold()
		c := s.dial()
		c.send(strings.Repeat(get, 3))
		c.halfClose()
		wait(t, "the store is asked", func() bool { return store.asked() > 1 })
		other := s.dial() // when it has its answer, the loop has seen the FIN
		other.send("GET /\r\n\r\n")
		other.want(400)
		other.wantEnd()
		down := make(chan struct{})
		go func() {
			defer close(down)
			s.shutdown()
		}()
		idle.wantEnd() // so the drain is under way
		release()
		if n, last := c.hits(); n != 3 || !last.close {
			t.Errorf("%d answers, the last says close: %v", n, last.close)
		}
		<-down
	})
}

// Half a request and FIN: nothing to answer, and the connection goes.
func TestHalfCloseWithinRequest(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c := s.dial()
		c.send(get + "GET /")
		c.halfClose()
		c.wantNumber(1)
		c.wantEnd()
		wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
	})
}

// TestOwedIsDelivered ends long pipelines in every way, with a client that
// begins to read only when the server is stuck: everything counted arrives.
func TestOwedIsDelivered(t *testing.T) {
	t.Parallel()
	const n = 4000
	for _, name := range engines {
		for _, tc := range []struct {
			name, last string
			status     int
			std        bool
		}{
			{"half-close", "", 0, true},
			{"Connection: close", final, 200, true},
			{"malformed", "GET /\r\n\r\n" + get, 400, true},
			{"too large", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n", 413, true},
		} {
			for _, kind := range []storeKind{stores[0], stores[3]} {
				if name == engine.Std && kind.name == "slow" {
					continue // a commit for each answer: too long
				}
				t.Run(fmt.Sprintf("%s/%s/%s", name, tc.name, kind.name), func(t *testing.T) {
					t.Parallel()
					s := kind.start(t, name, 0, func(o *options) { o.listen = cramped })
					c := s.dial()
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						io.WriteString(c, strings.Repeat(get, n)+tc.last)
						c.CloseWrite()
					}()
					wait(t, "the server is stuck or done", func() bool { return s.Stats().Hits > 300 })
					got, last := 0, answer{}
					for {
						a, err := c.read("GET")
						if errors.Is(err, io.EOF) {
							break
						}
						if err != nil {
							t.Fatalf("after %d answers: %v", got, err)
						}
						if a.status == 200 && a.number() != int64(got)+1 {
							t.Fatalf("answer %q, want %d", a.body, got+1)
						}
						if a.status == 200 {
							got++
						}
						last = a
					}
					<-sent
					if int64(got) != s.count() {
						t.Errorf("counted %d, answered %d", s.count(), got)
					}
					if name != engine.Std && last.close && got < n {
						return // a busy machine: it took us for a stalled reader
					}
					want := n
					if tc.status == 200 {
						want++
					}
					if got != want || tc.status != 0 && (last.status != tc.status || !last.close) {
						t.Errorf("%d of %d answers, the last %d, close: %v", got, want, last.status, last.close)
					}
				})
			}
		}
	}
}

// A reader that is slow, but reads, is not cut; also when it takes so little
// that the kernel does not let the server write for longer than its timeout.
func TestSlowReaderIsNotCut(t *testing.T) {
	const (
		n       = 10000
		timeout = 3 * brief
	)
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) { o.WriteTimeout, o.listen = timeout, roomy })
		c := dialNarrow(t, s.addr)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			io.WriteString(c, strings.Repeat(get, n))
			c.CloseWrite()
		}()
		began := time.Now()
		buf := make([]byte, 512)
		var text strings.Builder
		for {
			k, err := c.Read(buf)
			text.Write(buf[:k])
			if err != nil {
				break
			}
			if time.Since(began) < 3*timeout {
				time.Sleep(20 * time.Millisecond)
			}
		}
		c.Close()
		<-sent
		all := text.String()
		if answered := int64(strings.Count(all, "HTTP/1.1 200 OK")); answered != s.count() {
			t.Errorf("counted %d, answered %d", s.count(), answered)
		}
		if strings.Count(all, "HTTP/1.1 200 OK") < n && !strings.Contains(all, "Connection: close") {
			t.Error("it was cut, and not told")
		}
		if took := time.Since(began); took < 3*timeout {
			t.Errorf("cut after %v", took)
		}
	})
}

// roomy gives the connections it accepts much room for what is to be sent, so
// that the kernel lets the server write again only when a good part of it is
// gone.
func roomy(ln net.Listener) net.Listener { return sizedListener{ln.(*net.TCPListener), 200 << 10} }

// dialNarrow connects with segments as they are on Ethernet, and little room to
// receive: on the loopback a client else takes 64 KiB at a time.
func dialNarrow(t *testing.T, addr string) *client {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400)
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		})
	}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &client{t: t, TCPConn: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// TestLingersForSlowReader: all answers lie with the kernel and the connection
// is over, but the client has not taken them yet and sends on. Closing now would
// take them back.
func TestLingersForSlowReader(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) { o.listen = roomy })
		c := dialNarrow(t, s.addr)
		const n = 500
		c.send(strings.Repeat(get, n-1) + final)
		wait(t, "all is counted", func() bool { return s.Stats().Hits == n })
		for began := time.Now(); time.Since(began) < 2500*time.Millisecond; time.Sleep(50 * time.Millisecond) {
			io.WriteString(c, "rubbish")
		}
		if got, last := c.hits(); got != n || !last.close {
			t.Errorf("%d of %d answers arrived", got, n)
		}
	})
}

func TestResetsLoseNoCount(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		var sent atomic.Int64
		var clients sync.WaitGroup
		for i := range 4 {
			clients.Go(func() {
				for j := range 50 {
					c, err := connect(s.addr)
					if err != nil {
						t.Error(err)
						return
					}
					n := (i + j) % 7 * 20
					sent.Add(int64(n))
					io.WriteString(c, strings.Repeat(get, n)+"GET /"[:j%6])
					if j%3 == 0 && n > 0 {
						c.read("GET")
					}
					c.reset()
				}
			})
		}
		clients.Wait()
		wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
		c := s.dial()
		c.send(get)
		n := c.want(200).number()
		if n < 1 || n > sent.Load()+1 {
			t.Errorf("the count is %d after %d requests", n, sent.Load()+1)
		}
	})
}

// TestNobodyGetsAnothersAnswer opens and closes connections as fast as it can
// while answers wait for the store: the numbers of their descriptors are used
// again at once, and an answer must not go to whoever has the number now.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, &scripted{delay: 3 * time.Millisecond}, nil)
		end := time.Now().Add(1500 * time.Millisecond)
		var clients sync.WaitGroup
		var seen sync.Map // numbers given
		for range 4 {     // they leave before their answers come
			clients.Go(func() {
				for i := 0; time.Now().Before(end); i++ {
					c, err := connect(s.addr)
					if err != nil {
						t.Error(err)
						return
					}
					io.WriteString(c, strings.Repeat(get, 1+i%200))
					switch i % 3 {
					case 0:
						c.reset()
					case 1:
						c.CloseWrite()
						c.Close()
					case 2:
						c.Close()
					}
				}
			})
		}
		for range 4 { // they ask nothing at first, and must hear nothing
			clients.Go(func() {
				for time.Now().Before(end) {
					if err := listenThenAsk(s.addr, &seen); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
		wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
	})
}

// listenThenAsk is a client that says nothing for a moment, then is refused
// something, then counts twice.
func listenThenAsk(addr string, seen *sync.Map) error {
	c, err := connect(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
	if b, err := c.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("heard %q, %v before it asked", b, err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	io.WriteString(c, request("POST", "/count")+get+get)
	if a, err := c.read("GET"); err != nil || a.status != 405 {
		return fmt.Errorf("first answer %d %q, %v, want 405", a.status, a.body, err)
	}
	for range 2 {
		a, err := c.read("GET")
		if err != nil || a.number() < 0 {
			return fmt.Errorf("answer %d %q, %v", a.status, a.body, err)
		}
		if _, twice := seen.LoadOrStore(a.number(), true); twice {
			return fmt.Errorf("%d was given twice", a.number())
		}
	}
	return nil
}
