package blackbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

// TestShutdownUnderLoad stops a busy server. Every client reads to the end, so
// what was counted must be exactly what was answered.
func TestShutdownUnderLoad(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		var answered atomic.Int64
		var clients sync.WaitGroup
		for i := range 12 {
			depth := 1
			if i%2 == 1 && name != engine.Std { // net/http drops pipelined requests
				depth = 16
			}
			clients.Go(func() {
				for { // until the server is gone
					n, err := load(s.addr, depth)
					answered.Add(n)
					if err != nil {
						t.Errorf("depth %d: %v", depth, err)
					}
					if n == 0 {
						return
					}
				}
			})
		}
		wait(t, "the server is busy", func() bool { return answered.Load()+int64(s.Stats().Hits) > 500 })
		s.shutdown()
		clients.Wait()
		if n, want := s.counter.Total(), answered.Load(); n != want {
			t.Errorf("counted %d, answered %d", n, want)
		}
		if st := s.Stats(); st.Open != 0 {
			t.Errorf("%d connections open", st.Open)
		}
	})
}

// load sends requests in bursts of depth, each when the one before is answered,
// until the connection ends. It returns how many were answered; what breaks off
// within an answer is an error.
func load(addr string, depth int) (answered int64, err error) {
	c, err := connect(addr)
	if err != nil {
		return 0, nil // gone already
	}
	defer c.Close()
	burst := strings.Repeat(get, depth)
	for {
		io.WriteString(c, burst)
		for range depth {
			a, err := c.read("GET")
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return answered, err
			}
			if err != nil {
				return answered, nil
			}
			if a.number() < 0 {
				return answered, fmt.Errorf("answer %d %q", a.status, a.body)
			}
			answered++
		}
	}
}

// TestShutdownEndsEveryState shows what becomes of a connection in each state.
func TestShutdownEndsEveryState(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, func(o *options) { o.storeTimeout = patience })
		idle, half, halfBody, owed, pipelined := s.dial(), s.dial(), s.dial(), s.dial(), s.dial()
		for _, c := range []*client{idle, half, halfBody, owed, pipelined} {
			c.send(get)
			c.want(200)
		}
		half.send("GET / HTTP/1.1\r\n")
		halfBody.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
		release := store.hold()
		owed.send(get)
		wait(t, "the store is asked", func() bool { return store.asked() > 5 })
		if name != engine.Std { // it drops what is pipelined
			owed.send(get) // in another batch, or not yet read
		}
		pipelined.send(strings.Repeat(get, 300))
		// When these have their answers, the server has seen all the above.
		for range 4 {
			c := s.dial()
			c.send("GET /\r\n\r\n")
			c.want(400)
			c.wantEnd()
		}
		var fresh *client
		if name != engine.Std { // net/http waits five seconds for one
			fresh = s.dial()
			wait(t, "it is accepted", func() bool { return s.Stats().Accepted == 10 })
		}

		began := time.Now()
		down := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			down <- s.Shutdown(ctx)
		}()
		idle.wantEnd() // so the drain is under way
		select {
		case err := <-down:
			t.Fatalf("down while answers were owed: %v", err)
		default:
		}
		half.send("Host: a\r\n\r\n")
		halfBody.send("b")
		release()
		ends := map[string]*client{"half": half, "half a body": halfBody}
		if name == engine.Std { // it calls a connection with half a head idle
			delete(ends, "half")
		}
		for who, c := range ends {
			if a := c.want(200); !a.close {
				t.Errorf("%s: the last answer does not say close", who)
			}
			c.wantEnd()
		}
		if n, last := owed.hits(); name != engine.Std && !last.close || n == 0 || name == engine.Gnet && n != 2 {
			t.Errorf("owed: %d answers, the last says close: %v", n, last.close)
		}
		if name != engine.Std {
			if n, last := pipelined.hits(); n < 128 || !last.close {
				t.Errorf("pipelined: %d answers, the last says close: %v", n, last.close)
			}
		}
		if fresh != nil {
			fresh.send(get)
			if a := fresh.want(200); !a.close {
				t.Error("fresh: does not say close")
			}
			fresh.wantEnd()
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > slack {
			t.Errorf("took %v", took)
		}
		if _, err := net.Dial("tcp", s.addr); err == nil {
			t.Error("still listens")
		}
	})
}

// TestShutdownAnswersWhatIsMidBody: a request whose body was on its way when the drain began
// gets the last answer of its connection, also in the drain's first moment.
func TestShutdownAnswersWhatIsMidBody(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c := s.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
		c.want(100)
		down := make(chan struct{})
		go func() {
			defer close(down)
			s.shutdown()
		}()
		wait(t, "it listens no more", func() bool {
			conn, err := net.Dial("tcp", s.addr)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		c.send("a")
		if a := c.want(200); !a.close {
			t.Error("the last answer does not say close")
		}
		c.wantEnd()
		<-down
	})
}

// TestShutdownIsNotHeldUpByTheSilent: a client that has connected and says nothing does not hold
// up the end for long.
func TestShutdownIsNotHeldUpByTheSilent(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c := s.dial()
		wait(t, "it is accepted", func() bool { return s.Stats().Open == 1 })
		began := time.Now()
		s.shutdown()
		within(t, began, 0)
		c.wantEnd()
	})
}

// TestShutdownLeavesNoConnection: when Shutdown has returned, no connection is open.
func TestShutdownLeavesNoConnection(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		for i := range 100 {
			c := s.dial()
			c.send(get)
			c.wantNumber(int64(i) + 1)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if n := s.Stats().Open; n != 0 {
			t.Errorf("%d connections open", n)
		}
	})
}

// TestShutdownIsNotHeldUpByAnEmptyLine: nor does one that sends the empty line that may stand
// before a request.
func TestShutdownIsNotHeldUpByAnEmptyLine(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		idle, fresh := s.dial(), s.dial()
		idle.send(get)
		idle.wantNumber(1)
		wait(t, "both are accepted", func() bool { return s.Stats().Open == 2 })
		began := time.Now()
		down := make(chan struct{})
		go func() {
			defer close(down)
			s.shutdown()
		}()
		idle.wantEnd() // so the drain is under way
		fresh.send("\r\n")
		fresh.wantEnd()
		<-down
		within(t, began, 0)
	})
}

// gated is a listener that accepts nothing until it is opened, so that
// connections queue in the kernel; it tells when the server begins to drain. Its
// second Accept is late, as on a busy machine: the deadline has passed.
type gated struct {
	*net.TCPListener
	open, draining chan struct{}
	once           sync.Once
	accepts        int
}

func (l *gated) Accept() (net.Conn, error) {
	<-l.open
	if l.accepts++; l.accepts == 2 {
		time.Sleep(5 * time.Millisecond)
	}
	return l.TCPListener.Accept()
}

func (l *gated) SetDeadline(t time.Time) error {
	l.once.Do(func() { close(l.draining) })
	return l.TCPListener.SetDeadline(t)
}

// TestShutdownAcceptsQueued: clients whose connection the kernel has accepted,
// and the server has not yet, are served.
func TestShutdownAcceptsQueued(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		l := &gated{open: make(chan struct{}), draining: make(chan struct{})}
		s := start(t, name, counter.NewMem(), func(o *options) {
			o.listen = func(ln net.Listener) net.Listener {
				l.TCPListener = ln.(*net.TCPListener)
				return l
			}
		})
		var clients []*client
		for range 50 {
			c := s.dial()
			c.send(get)
			clients = append(clients, c)
		}
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(context.Background()) }()
		<-l.draining
		close(l.open)
		for i, c := range clients {
			a, err := c.read("GET")
			if err != nil {
				t.Fatalf("client %d: %v", i, err)
			}
			if a.number() < 1 || name != engine.Std && !a.close {
				t.Errorf("client %d: %d %q, says close: %v", i, a.status, a.body, a.close)
			}
			c.wantEnd()
			c.Close()
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if n := s.count(); n != 50 {
			t.Errorf("counted %d", n)
		}
	})
}

// TestShutdownTimeoutCuts: what does not end is cut, and Shutdown says so in time.
func TestShutdownTimeoutCuts(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, func(o *options) { o.storeTimeout = patience })
		owed, half := s.dial(), s.dial()
		half.send("GET / HTTP/1.1\r\nHost: a")
		release := store.hold()
		defer release()
		owed.send(get)
		wait(t, "the store is asked", func() bool { return store.asked() > 0 })
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), brief)
		defer cancel()
		err := s.Shutdown(ctx)
		within(t, began, brief)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 connections") {
			t.Errorf("error %v", err)
		}
		half.wantEnd()
		owed.wantEnd()
	})
}

// TestShutdownIsNotHeldUpByAStream: a client that never stops sending cannot hold up
// the end.
func TestShutdownIsNotHeldUpByAStream(t *testing.T) {
	each(t, own, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c := s.dial()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for { // always in the middle of a request
				if _, err := io.WriteString(c, (get + get)[10:10+len(get)]); err != nil {
					return
				}
			}
		}()
		io.WriteString(c, get[:10])
		go io.Copy(io.Discard, c)
		wait(t, "the client is at work", func() bool { return s.Stats().Hits > 100 || s.Stats().Open == 0 })
		began := time.Now()
		s.shutdown()
		within(t, began, 0)
		c.Close()
		<-sent
	})
}

// TestNothingIsLeft: after Shutdown and Close no goroutine of ours is left, in
// whatever state the connections were.
func TestNothingIsLeft(t *testing.T) {
	for _, name := range engines {
		for _, patient := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", name, patient), func(t *testing.T) {
				running := goleak.IgnoreCurrent()
				store := &scripted{}
				s := start(t, name, store, func(o *options) { o.storeTimeout, o.listen = patience, cramped })
				idle, half, stuck, owed, left := s.dial(), s.dial(), s.dial(), s.dial(), s.dial()
				idle.send(get)
				idle.want(200)
				half.send("GET /")
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					stuck.endless(request("POST", "/count")) // which asks nothing of the store
				}()
				var answered uint64
				since := time.Now()
				wait(t, "a client is stuck", func() bool {
					if n := s.Stats().Refused["method_not_allowed"]; n != answered {
						answered, since = n, time.Now()
					}
					return answered > 0 && time.Since(since) > 200*time.Millisecond
				})
				release := store.hold()
				owed.send(get)
				left.send(strings.Repeat(get, 200))
				left.halfClose()
				wait(t, "the store is asked", func() bool { return store.asked() > 1 })
				ctx, cancel := context.WithTimeout(context.Background(), brief)
				if patient {
					half.send(" HTTP/1.1\r\nHost: a\r\n\r\n")
					stuck.reset()
					release()
					cancel()
					ctx, cancel = context.WithTimeout(context.Background(), patience)
				}
				defer cancel()
				if err := s.Shutdown(ctx); patient && err != nil {
					t.Error(err)
				}
				release()
				closing, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				s.stop(closing)
				for _, c := range []*client{idle, half, stuck, owed, left} {
					c.Close()
				}
				<-sent
				if err := goleak.Find(append(leaks, running)...); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestServeAfterShutdown: whoever stops a server that is only just beginning must
// not be left with connections that nobody serves.
func TestServeAfterShutdown(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		c := counter.NewInstant(counter.NewMem(), counter.Options{})
		s, err := engine.New(engine.Config{Engine: name, Loops: 1, MaxConns: 10, Log: slog.New(slog.DiscardHandler)}, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Close(t.Context())
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if err := s.Serve(ln); err != nil {
			t.Error(err)
		}
		if st := s.Stats(); st.Accepted != 0 || st.Rejected != 0 {
			t.Errorf("%d connections accepted, %d rejected", st.Accepted, st.Rejected)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
