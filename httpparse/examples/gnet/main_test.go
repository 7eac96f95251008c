package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/httpparse"
	"github.com/panjf2000/gnet/v2"
)

// stoppable is the server, and tells when it is up.
type stoppable struct {
	server
	up chan gnet.Engine
}

func (s *stoppable) OnBoot(e gnet.Engine) gnet.Action {
	s.up <- e
	return gnet.None
}

// start runs the server on two loops until the test ends.
func start(t *testing.T) (path string) {
	s := &stoppable{server{date: new(httpparse.Date)}, make(chan gnet.Engine, 1)}
	path = filepath.Join(t.TempDir(), "socket")
	done := make(chan error, 1)
	go func() { done <- gnet.Run(s, "unix://"+path, gnet.WithNumEventLoop(2)) }()
	engine := <-s.up
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := engine.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func dial(t *testing.T, path string) net.Conn {
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// TestExampleServes sends requests in pieces and reads the answers, up to the close
// after the last.
func TestExampleServes(t *testing.T) {
	path := start(t)
	const get, post = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
	for _, c := range []struct {
		name   string
		pieces []string
		method string
		want   []int // the last closes if closes
		closes bool
	}{
		{"pipelined and in pieces", []string{get + get, post, "\r\nhel", "lo" + get}, "GET", []int{204, 204, 204, 204}, false},
		{"close", []string{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"}, "GET", []int{204}, true},
		{"HTTP/1.0", []string{"GET / HTTP/1.0\r\n\r\n"}, "GET", []int{204}, true},
		{"malformed", []string{get + "GET / HTTP/1.1\n"}, "GET", []int{204, 400}, true},
		{"HEAD that is malformed", []string{"HEAD / HTTP/1.1\r\n\r\n"}, "HEAD", []int{400}, true},
		{"body held back", []string{post + "Expect: 100-continue\r\n\r\n"}, "GET", []int{100}, false},
		{"unknown expectation", []string{post + "Expect: a-miracle\r\n\r\n"}, "GET", []int{417}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, path)
			for _, piece := range c.pieces {
				if _, err := io.WriteString(conn, piece); err != nil {
					t.Fatal(err)
				}
			}
			r := bufio.NewReader(conn)
			for i, want := range c.want {
				resp, err := http.ReadResponse(r, &http.Request{Method: c.method})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want || resp.Close != (c.closes && i == len(c.want)-1) {
					t.Errorf("answer %d is %d, close %v, %v; want %d", i, resp.StatusCode, resp.Close, err, want)
				}
			}
			if !c.closes {
				return
			}
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("behind the last answer: %v", err)
			}
		})
	}
}

// TestLoopsShareNothing: connections of several loops at once share nothing that the race
// detector minds.
func TestLoopsShareNothing(t *testing.T) {
	path := start(t)
	var wg sync.WaitGroup
	for range 8 {
		conn := dial(t, path)
		wg.Go(func() {
			r := bufio.NewReader(conn)
			for i := range 50 {
				body := strings.Repeat("x", i)
				if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", i, body); err != nil {
					t.Error(err)
					return
				}
				if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 204 {
					t.Errorf("%v, %v", resp, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
