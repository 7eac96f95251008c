package blackbox

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

// pad fills the # in pattern with x until it is n bytes long.
func pad(t *testing.T, pattern string, n int) string {
	t.Helper()
	fill := n - len(pattern) + 1
	if fill < 0 {
		t.Fatalf("%q is longer than %d", pattern, n)
	}
	return strings.Replace(pattern, "#", strings.Repeat("x", fill), 1)
}

// TestSizeLimits shows that each limit is exact: so many bytes pass, one more
// does not. net/http has its own idea of the header's size.
func TestSizeLimits(t *testing.T) {
	t.Parallel()
	const header, body = 1000, 5000
	const head = "POST / HTTP/1.1\r\nHost: a\r\n"
	const chunked = head + "Transfer-Encoding: chunked\r\n\r\n"
	for _, name := range engines {
		for _, tc := range []struct {
			name    string
			request func(over int) string
			status  int // when over
			std     bool
		}{
			{name: "fields", status: 431, request: func(over int) string {
				return pad(t, "GET / HTTP/1.1\r\nHost: a\r\nX: #\r\n\r\n", header+over)
			}},
			{name: "target", status: 431, request: func(over int) string {
				return pad(t, "GET /# HTTP/1.1\r\nHost: a\r\n\r\n", header+over)
			}},
			{name: "trailers", status: 431, request: func(over int) string {
				return chunked + "1\r\na\r\n0\r\n" + pad(t, "X: #\r\n\r\n", header+over)
			}},
			{name: "body", status: 413, std: true, request: func(over int) string {
				return head + fmt.Sprintf("Content-Length: %d\r\n\r\n", body+over) + strings.Repeat("x", body+over)
			}},
			{name: "chunked body", status: 413, request: func(over int) string {
				data := body + over - len("1000\r\n\r\n000\r\n\r\n0\r\n")
				return chunked + fmt.Sprintf("1000\r\n%s\r\n%03x\r\n%s\r\n0\r\n\r\n",
					strings.Repeat("x", 0x1000), data-0x1000, strings.Repeat("x", data-0x1000))
			}},
			{name: "chunk extension", status: 413, request: func(over int) string {
				return chunked + pad(t, "1;#\r\nx\r\n0\r\n", body+over) + "\r\n"
			}},
		} {
			if name == engine.Std && !tc.std {
				continue
			}
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				s := start(t, name, counter.NewMem(), func(o *options) { o.MaxHeaderBytes, o.MaxBodyBytes = header, body })
				for _, step := range []int{1 << 20, 1, 7, 999} {
					before := s.count()
					c := s.dial()
					c.sendIn(step, tc.request(0)+count)
					c.wantNumber(before + 1)
					c.wantNumber(before + 1)
					c = s.dial()
					go c.sendIn(step, tc.request(1)) // refused before it is all sent
					if a := c.want(tc.status); !a.close {
						t.Error("does not say close")
					}
					c.wantEnd()
					if n := s.count(); n != before+1 {
						t.Errorf("counted %d, want 1", n-before)
					}
				}
			})
		}
	}
}

// sendIn sends in segments of n bytes.
func (c *client) sendIn(n int, s string) {
	for len(s) > 0 {
		n = min(n, len(s))
		if _, err := io.WriteString(c, s[:n]); err != nil {
			return
		}
		s = s[n:]
	}
}

func TestTooLongTargetGets414(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) { o.MaxHeaderBytes = 1000 })
		c := s.dial()
		c.send(pad(t, "GET /#", 1000))
		c.want(414)
		c.wantEnd()
	})
}

func TestMaxConnsIsExact(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) { o.MaxConns = 3 })
		var in []*client
		for i := range 3 {
			c := s.dial()
			c.send(get)
			c.wantNumber(int64(i) + 1)
			in = append(in, c)
		}
		for range 3 {
			c := s.dial()
			a := c.want(503)
			checkFields(t, a)
			if !a.close || a.fields.Get("Retry-After") == "" {
				t.Errorf("503 with %v", a.fields)
			}
			c.wantEnd()
		}
		for _, c := range in { // those within are not disturbed
			c.send(count)
			c.wantNumber(3)
		}
		in[0].Close()
		wait(t, "room for another", func() bool { return s.Stats().Open == 2 })
		c := s.dial()
		c.send(get)
		c.wantNumber(4)
		if st := s.Stats(); st.Rejected != 3 || st.Accepted != 4 {
			t.Errorf("%+v", st)
		}
	})
}

// brief is a timeout that a test waits for; slack is how late it may come on a
// busy machine.
const (
	brief = 400 * time.Millisecond
	slack = 20 * time.Second
)

// within checks that what ended just now took about as long as it should.
func within(t *testing.T, began time.Time, least time.Duration) {
	t.Helper()
	if took := time.Since(began); took < least || took > least+slack {
		t.Errorf("after %v, want %v", took, least)
	}
}

func TestSlowRequestIsCut(t *testing.T) {
	t.Parallel()
	for _, name := range engines {
		for _, tc := range []struct{ name, first, then string }{
			{"request line", "", "GET /" + strings.Repeat("x", 10000)},
			{"fields", "GET / HTTP/1.1\r\nHost: a\r\n", strings.Repeat("A: b\r\n", 2000)},
			{"second request", get, "GET /" + strings.Repeat("x", 10000)},
			{"body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n", strings.Repeat("x", 9999)},
			{"chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 2000)},
			{"trailers", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", strings.Repeat("A: b\r\n", 2000)},
		} {
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				s := start(t, name, counter.NewMem(), func(o *options) { o.ReadTimeout = brief })
				began := time.Now()
				c := s.dial()
				c.send(tc.first)
				if tc.first == get {
					c.wantNumber(1)
					began = time.Now()
				}
				go func() { // a byte now and then, so that it is never silent
					for i := 0; i < len(tc.then); i++ {
						if _, err := io.WriteString(c, tc.then[i:i+1]); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
				a, err := c.read("GET")
				within(t, began, brief)
				if name == engine.Std && a.status != 408 {
					return // net/http closes without a word, or blames the request
				}
				if err != nil || a.status != 408 || !a.close {
					t.Fatalf("%d %v, %v; want 408", a.status, a.fields, err)
				}
				checkFields(t, a)
				c.wantEnd()
			})
		}
	}
}

func TestSilentConnectionIsClosed(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) { o.ReadTimeout = brief })
		began := time.Now()
		s.dial().wantEnd()
		within(t, began, brief)
		if name != engine.Std { // it answers 400
			c := s.dial()
			c.send("\r\n") // which begins no request
			c.wantEnd()
			within(t, began, 2*brief)
		}
		wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
	})
}

func TestIdleConnectionIsClosed(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) { o.IdleTimeout = brief })
		c := s.dial()
		for i := range 5 { // each request begins a new pause
			c.send(get)
			c.wantNumber(int64(i) + 1)
			time.Sleep(brief / 4)
		}
		began := time.Now()
		c.send(get)
		c.wantNumber(6)
		c.wantEnd()
		within(t, began, brief)
		wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
	})
}

// A connection that waits for its own answer is neither idle nor slow, however
// long the store takes.
func TestWaitingIsNotIdle(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, func(o *options) {
			o.IdleTimeout, o.ReadTimeout, o.WriteTimeout = brief, brief, brief
			o.storeTimeout = patience
		})
		fresh := s.dial()
		old := s.dial()
		old.send(get)
		old.wantNumber(1)
		release := store.hold()
		fresh.send(get)
		old.send(get + get)
		for range 2 { // others come and are found silent meanwhile
			s.dial().wantEnd()
		}
		release()
		fresh.want(200)
		old.want(200)
		old.want(200)
	})
}

// endless writes requests until the connection takes no more for good. It
// returns how many were written whole.
func (c *client) endless(request string) (n int) {
	batch := strings.Repeat(request, 1000)
	for {
		k, err := io.WriteString(c, batch)
		c.sent.Add(int64(k))
		n += k / len(request)
		if err != nil {
			return n
		}
	}
}

func TestStalledReaderIsCut(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), func(o *options) {
			// net/http counts more than the writing.
			o.WriteTimeout, o.storeTimeout, o.listen = brief, 0, cramped
			if name == engine.Std {
				o.ReadTimeout = brief
			}
		})
		began := time.Now()
		c := s.dial()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			c.endless(get)
		}()
		wait(t, "the stalled connection is cut", func() bool {
			st := s.Stats()
			return st.Accepted == 1 && st.Open == 0
		})
		within(t, began, brief)
		c.reset()
		<-sent
	})
}

// TestPipelineWithoutReading has many clients send without end and read
// nothing: memory stays bounded; and when they read at last, everything that
// was counted arrives, and our engines say on the last that it is the last.
func TestPipelineWithoutReading(t *testing.T) {
	type crowd struct {
		name    string
		s       *server
		clients []*client
		sending sync.WaitGroup
	}
	const each = 12
	var crowds []*crowd
	before := heap()
	for _, name := range engines {
		for _, kind := range []storeKind{stores[0], stores[3]} {
			if name == engine.Std && kind.name == "slow" {
				continue // a commit for each request: it takes long to be stuck
			}
			c := &crowd{name: name + "/" + kind.name}
			c.s = kind.start(t, name, 0, func(o *options) { o.listen = cramped })
			for range each {
				client := c.s.dial()
				c.clients = append(c.clients, client)
				c.sending.Go(func() { client.endless(get) })
			}
			crowds = append(crowds, c)
		}
	}
	// All are stuck when nothing more is counted.
	stuckSince, last := time.Now(), uint64(0)
	wait(t, "all clients are stuck", func() bool {
		n := uint64(0)
		for _, c := range crowds {
			n += c.s.Stats().Hits
		}
		if n != last {
			stuckSince, last = time.Now(), n
		}
		return time.Since(stuckSince) > 1200*time.Millisecond // beyond the server's patience
	})
	grown := (heap() - before) / int64(len(crowds)*each)
	t.Logf("%d KiB for each client", grown>>10)
	if grown > 250<<10 {
		t.Errorf("%d KiB for each client", grown>>10)
	}
	for _, c := range crowds {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			defer c.sending.Wait()
			answered := int64(0)
			for _, client := range c.clients {
				if strings.HasPrefix(c.name, engine.Std) {
					client.reset() // it would go on for ever
					continue
				}
				client.t = t
				n, last := client.hits()
				if !last.close {
					t.Error("the last answer does not say close")
				}
				answered += int64(n)
				client.Close()
			}
			wait(t, "no open connection", func() bool { return c.s.Stats().Open == 0 })
			if n := c.s.count(); n != answered && answered > 0 {
				t.Errorf("counted %d, answered %d", n, answered)
			}
		})
	}
}

// cramped gives the connections it accepts little room for what is to be sent,
// so that a client that does not read is soon felt.
func cramped(ln net.Listener) net.Listener { return sizedListener{ln.(*net.TCPListener), 16 << 10} }

type sizedListener struct {
	*net.TCPListener
	room int
}

func (l sizedListener) Accept() (net.Conn, error) {
	nc, err := l.TCPListener.Accept()
	if err == nil {
		nc.(*net.TCPConn).SetWriteBuffer(l.room)
	}
	return nc, err
}

// TestFloodWhileStoreIsAway has clients send without end while the store does
// not answer: what is kept of it is bounded, and once the store is back nobody
// has lost an answer.
func TestFloodWhileStoreIsAway(t *testing.T) {
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			const each = 12
			store := &scripted{}
			s := start(t, name, store, func(o *options) { o.listen, o.storeTimeout = cramped, patience })
			release := store.hold()
			before := heap()
			var clients []*client
			var sending sync.WaitGroup
			for range each {
				c := s.dial()
				clients = append(clients, c)
				sending.Go(func() { c.endless(get) })
			}
			stuckSince, last := time.Now(), int64(0)
			wait(t, "all clients are stuck", func() bool {
				n := int64(0)
				for _, c := range clients {
					n += c.sent.Load()
				}
				if n != last {
					stuckSince, last = time.Now(), n
				}
				return time.Since(stuckSince) > brief
			})
			grown := (heap() - before) / each
			t.Logf("%d KiB for each client", grown>>10)
			if grown > 250<<10 {
				t.Errorf("%d KiB for each client", grown>>10)
			}
			release()
			if name == engine.Std {
				for _, c := range clients {
					c.want(200)
					c.reset()
				}
				sending.Wait()
				return
			}
			// Nothing is read for longer than the server is patient.
			wait(t, "the server is stuck, too", func() bool {
				n := s.Stats().Hits
				time.Sleep(1200 * time.Millisecond)
				return s.Stats().Hits == n
			})
			answered := int64(0)
			for _, c := range clients {
				n, last := c.hits()
				if !last.close {
					t.Error("the last answer does not say close")
				}
				answered += int64(n)
				c.Close()
			}
			sending.Wait()
			if n := s.count(); n != answered {
				t.Errorf("counted %d, answered %d", n, answered)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestLastRequestThenFlood has clients whose last request waits for the store,
// and who send on: what follows is thrown away, not kept.
func TestLastRequestThenFlood(t *testing.T) {
	for _, name := range own {
		t.Run(name, func(t *testing.T) {
			store := &scripted{}
			s := start(t, name, store, func(o *options) { o.storeTimeout = patience })
			release := store.hold()
			c := s.dial()
			c.send(final)
			wait(t, "the store is asked", func() bool { return store.asked() > 0 })
			before := heap()
			c.SetWriteDeadline(time.Now().Add(brief))
			flood := []byte(strings.Repeat("x", 1<<20))
			for range 64 {
				if _, err := c.Write(flood); err != nil {
					break // it does not read: as good
				}
			}
			if grown := heap() - before; grown > 4<<20 {
				t.Errorf("%d KiB kept", grown>>10)
			}
			release()
			if a := c.wantNumber(1); !a.close {
				t.Error("does not say close")
			}
		})
	}
}
