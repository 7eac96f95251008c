package engine

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
)

// TestBurstIsSpread: connections that come all at once are spread evenly over the
// loops, though none has reached its loop when the next is given one.
func TestBurstIsSpread(t *testing.T) {
	const loops, each = 4, 25
	c := counter.NewInstant(counter.NewMem(), counter.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients []net.Conn
	for range loops * each { // they queue in the kernel
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, nc)
	}
	s := serve(t, Config{Engine: Gnet, Loops: loops, MaxConns: loops * each}, c, ln)
	eventually(t, "all are open", func() bool { return s.Stats().Open == loops*each })
	s.model.(*reactor).enrolls.Wait()
	for i, l := range s.model.(*reactor).loops {
		if n := l.conns.Load(); n != each {
			t.Errorf("loop %d has %d connections, want %d", i, n, each)
		}
	}
	for _, nc := range clients {
		nc.Close()
	}
}

// serve runs a server of cfg, with patience, until the test ends.
func serve(t *testing.T, cfg Config, c *counter.Counter, ln net.Listener) *Server {
	t.Helper()
	cfg.ReadTimeout, cfg.IdleTimeout = time.Minute, time.Minute
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = time.Minute
	}
	cfg.MaxHeaderBytes = 16 << 10
	s, err := New(cfg, c)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
		c.Close(ctx)
	})
	return s
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

// gated is a store that stands still until its gate opens.
type gated struct {
	total int64
	begun chan struct{}
	gate  chan struct{}
}

func (g *gated) Add(_ context.Context, ds []counter.Delta) (int64, error) {
	g.begun <- struct{}{}
	<-g.gate
	for i := range ds {
		g.total += ds[i].Hits
		ds[i].Total = g.total
	}
	return g.total, nil
}

func (*gated) Close() error { return nil }

// TestRefusalOvertakesNoAnswer: what is refused at once, since too much waits for the
// store, is answered after what the store still has.
func TestRefusalOvertakesNoAnswer(t *testing.T) {
	for _, name := range []string{Gnet, Goroutine} {
		t.Run(name, func(t *testing.T) {
			store := &gated{begun: make(chan struct{}, 9), gate: make(chan struct{})}
			c := counter.New(store, counter.Options{Timeout: time.Minute, MaxWaiting: 4})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			serve(t, Config{Engine: name, Loops: 1, MaxConns: 10}, c, ln)
			dial := func() net.Conn {
				nc, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				nc.SetDeadline(time.Now().Add(time.Minute))
				return nc
			}
			const hit = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
			ours, other := dial(), dial()
			defer ours.Close()
			defer other.Close()
			io.WriteString(ours, hit)
			<-store.begun // it weighs 3 of 4
			io.WriteString(ours, strings.Repeat(hit, 3))
			refused := bufio.NewReader(other)
			for range 5 { // turns of the loop, which has read ours by then
				io.WriteString(other, "POST /count HTTP/1.1\r\nHost: h\r\n\r\n")
				if got := answerIn(t, refused); !strings.HasPrefix(got, "405") {
					t.Fatal(got)
				}
			}
			close(store.gate)
			in := bufio.NewReader(ours)
			if got := answerIn(t, in); got != "200 1" {
				t.Errorf("the first answer is %q, the first hit's is 200 1", got)
			}
			for range 3 {
				if got := answerIn(t, in); name == Gnet && !strings.HasPrefix(got, "503") {
					t.Errorf("%q, want 503", got)
				}
			}
		})
	}
}

// answerIn reads an answer: its status and its body.
func answerIn(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status[:3] + " " + strings.TrimSpace(string(body))
}
