package engine

import (
	"net"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
)

// TestBurstIsSpread: connections that come all at once are spread evenly over the
// loops, though none has reached its loop when the next is given one.
func TestBurstIsSpread(t *testing.T) {
	const loops, each = 4, 25
	c := counter.NewInstant(counter.NewMem(), counter.Options{})
	s, err := New(Config{
		Engine: Gnet, Loops: loops, MaxConns: loops * each,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}, c)
	if err != nil {
		t.Fatal(err)
	}
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
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	for end := time.Now().Add(time.Minute); s.Stats().Open < loops*each; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for the connections")
		}
	}
	s.model.(*reactor).enrolls.Wait()
	for i, l := range s.model.(*reactor).loops {
		if n := l.conns.Load(); n != each {
			t.Errorf("loop %d has %d connections, want %d", i, n, each)
		}
	}
	for _, nc := range clients {
		nc.Close()
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	s.Close(t.Context())
	if err := <-served; err != nil {
		t.Error(err)
	}
	c.Close(t.Context())
}
