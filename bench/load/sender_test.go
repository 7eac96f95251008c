//go:build linux

package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAnswerFindsItsEnd(t *testing.T) {
	whole := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n12\n"
	for n := range whole {
		if size, _, err := answer([]byte(whole[:n])); size != 0 || err != nil {
			t.Fatalf("%d of %d bytes: size %d, %v", n, len(whole), size, err)
		}
	}
	if size, ok, err := answer([]byte(whole)); size != len(whole) || !ok || err != nil {
		t.Errorf("size %d, ok %v, %v", size, ok, err)
	}
	if _, ok, _ := answer([]byte("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")); ok {
		t.Error("a 503 passed for success")
	}
	if _, _, err := answer([]byte("HTTP/1.1 200 OK\r\n\r\n")); err == nil {
		t.Error("an answer of unknown length passed")
	}
}

func TestSendCountsWhatTheServerCounts(t *testing.T) {
	var hits atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, hits.Add(1))
	}))
	defer s.Close()
	r, err := Send(s.Listener.Addr().String(), 2000, 8, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 400 || hits.Load() != 400 || r.Backlog != 0 {
		t.Errorf("due 400, client %d, server %d, unsent %d", r.Requests, hits.Load(), r.Backlog)
	}
}

// A server that stands still for a while must be charged with every request
// that fell due meanwhile, not only with those it happened to hold. A closed
// loop would see two slow requests here.
func TestSendDoesNotOmitWhatAStallHidesFromIt(t *testing.T) {
	const (
		rate  = 1000
		conns = 2
		stall = 200 * time.Millisecond
	)
	addr := stallingServer(t, 100, stall)
	r, err := Send(addr, rate, conns, 600*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// Of 600 requests 200 fall due during the stall, evenly: a third waits, a
	// sixth longer than half of the stall.
	if r.Latency.P90 < float64((stall / 2).Microseconds()) {
		t.Errorf("the 90th percentile is %.0f µs: the stall was omitted", r.Latency.P90)
	}
	if r.Latency.P99 < float64((stall * 3 / 4).Microseconds()) {
		t.Errorf("the 99th percentile is %.0f µs: the stall was omitted", r.Latency.P99)
	}
}

// What is never answered has the longest latency of all: it must not be missing.
func TestUnansweredRequestsAreCharged(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0") // it takes connections, and that's all
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, err := newSender(ln.Addr().String(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.start = time.Now().Add(-2 * time.Second)
	for range 2 {
		if err := s.send(0); err != nil {
			t.Fatal(err)
		}
	}
	s.chargeUnanswered()
	r := s.result()
	if s.latency.TotalCount() != 2 || r.Requests != 0 || r.Latency.P50 < 1.9e6 {
		t.Errorf("%d charged, %d answered, median %.0f µs: want 2, 0, and 2 s", s.latency.TotalCount(), r.Requests, r.Latency.P50)
	}
}

// stallingServer answers at once, except that once, after the given number of
// requests, everything stands still.
func stallingServer(t *testing.T, after int64, stall time.Duration) string {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var mu sync.Mutex
	served := int64(0)
	serve := func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			mu.Lock()
			if served++; served == after {
				time.Sleep(stall) // the stall itself, not a wait for something
			}
			mu.Unlock()
			if _, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1\n"); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return ln.Addr().String()
}

func TestSendRefusesNonsense(t *testing.T) {
	for _, c := range []struct {
		rate  float64
		conns int
		d     time.Duration
	}{{0, 1, time.Second}, {1, 0, time.Second}, {1, 1, 0}} {
		if _, err := Send("127.0.0.1:1", c.rate, c.conns, c.d); err == nil {
			t.Errorf("%+v passed", c)
		}
	}
	if _, err := Send("127.0.0.1:1", 10, 1, time.Second); err == nil {
		t.Error("nobody listens there")
	}
}

func TestHoldAsksOncePerConnection(t *testing.T) {
	var hits, open atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, hits.Add(1))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			open.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	held, err := Hold(context.Background(), s.Listener.Addr().String(), 200)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if hits.Load() != 200 || open.Load() != 200 {
		t.Errorf("%d requests on %d connections, want 200 on 200", hits.Load(), open.Load())
	}
}

func TestHoldSaysWhichFailed(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	if held, err := Hold(context.Background(), s.Listener.Addr().String(), 100); err == nil {
		held.Close()
		t.Error("answers of 404 passed")
	}
}

func TestFillAsksForEachPathOnce(t *testing.T) {
	const n = 3000
	var mu sync.Mutex
	asked := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path]++
	}))
	defer s.Close()
	if err := Fill(t.Context(), s.Listener.Addr().String(), n); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if path := fmt.Sprintf("/%d", i+1); asked[path] != 1 {
			t.Fatalf("%s was asked for %d times", path, asked[path])
		}
	}
}

func TestFillSaysWhatFailed(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	if err := Fill(t.Context(), s.Listener.Addr().String(), 5); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}
