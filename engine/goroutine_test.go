package engine

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
)

// TestConnectionAdoptedAfterTheCutIsClosed: a connection that leaves its loop just when a drain has run
// out of time is closed like the others.
func TestConnectionAdoptedAfterTheCutIsClosed(t *testing.T) {
	c := counter.NewInstant(counter.NewMem(), counter.Options{})
	s, err := New(Config{Engine: Goroutine, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute}, c)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		defer ends[i].Close()
	}
	s.open[before] = 1
	g := s.model.(*goroutines)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Shutdown(ctx)
	settled := make(chan struct{})
	close(settled)
	go g.add(ends[0], before).run(&moved{out: make([]byte, 8<<20), settled: settled}) // more than fits
	for end := time.Now().Add(10 * time.Second); s.Stats().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still open")
		}
	}
	c.Close(t.Context())
}
