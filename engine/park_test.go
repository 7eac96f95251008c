package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
)

// parkedClient asks more often than its socket takes answers, reads none, and is
// parked.
func parkedClient(t *testing.T, s *Server, ln net.Listener) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	go io.WriteString(nc, strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200_000))
	eventually(t, "it is parked", func() bool { return parks(s) == 1 })
	return nc
}

func parks(s *Server) int {
	p := &s.model.(*reactor).parking
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

func talks(s *Server) int {
	g := s.model.(*reactor).others
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.talks)
}

// TestWhoDoesntReadIsParked: it has no goroutine until it reads, and then gets every
// answer; gone, or silent for too long, it is closed.
func TestWhoDoesntReadIsParked(t *testing.T) {
	begin := func(t *testing.T, patience time.Duration) (*Server, net.Conn) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := counter.NewInstant(counter.NewMem(), counter.Options{})
		s := serve(t, Config{Engine: Gnet, Loops: 1, MaxConns: 10, WriteTimeout: patience}, c, ln)
		nc := parkedClient(t, s, ln)
		if n := talks(s); n != 0 {
			t.Errorf("%d goroutines for it", n)
		}
		return s, nc
	}
	// inOrder reads answers until the last one, or enough.
	inOrder := func(t *testing.T, nc net.Conn, enough int) int {
		nc.SetReadDeadline(time.Now().Add(time.Minute))
		in := bufio.NewReader(nc)
		for n := 1; ; n++ {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("answer %d: %v", n, err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != fmt.Sprintln(n) {
				t.Fatalf("answer %d says %q, %v", n, body, err)
			}
			if resp.Close || n == enough {
				return n
			}
		}
	}
	t.Run("reads", func(t *testing.T) {
		s, nc := begin(t, time.Minute)
		const enough = 50_000 // unless it was slow to begin, and was told that this is the end
		if inOrder(t, nc, enough) == enough && (parks(s) != 0 || talks(s) != 1) {
			t.Error("it reads, and has no goroutine")
		}
		nc.Close()
	})
	t.Run("goes", func(t *testing.T) {
		s, nc := begin(t, time.Minute)
		nc.Close()
		eventually(t, "it is closed", func() bool { return s.Stats().Open == 0 })
	})
	t.Run("stays", func(t *testing.T) {
		s, _ := begin(t, 4*tick)
		eventually(t, "it is closed", func() bool { return s.Stats().Open == 0 })
	})
	t.Run("drain", func(t *testing.T) {
		s, nc := begin(t, time.Minute)
		retired := make(chan error, 1)
		go func() { retired <- s.Retire(context.Background()) }()
		eventually(t, "it has a goroutine", func() bool { return talks(s) == 1 })
		n := inOrder(t, nc, 0)
		if counted := s.counter.Total(); counted != int64(n) {
			t.Errorf("%d counted, %d answered", counted, n)
		}
		nc.Close()
		if err := <-retired; err != nil {
			t.Error(err)
		}
	})
}
