package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/engine"
)

var standstills = flag.Int("standstills", 1, "how often TestStandstillIsNoClientsFault stops each engine")

const (
	aHit = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

	// shortTime is each of the timeouts that pass while the process stands still.
	shortTime = time.Second
)

// ownEngines are those with our HTTP.
var ownEngines = []string{engine.Gnet, engine.Goroutine}

func impatient(name string) []string {
	args := []string{"--engine=" + name, "--store=mem:"}
	for _, f := range []string{"--read-timeout", "--idle-timeout", "--write-timeout"} {
		args = append(args, f+"="+shortTime.String())
	}
	return args
}

// visitor is a client on one connection.
type visitor struct {
	net.Conn
	r *bufio.Reader
}

func (p *process) visit() *visitor {
	p.t.Helper()
	v, err := reach(p.listen)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { v.Close() })
	return v
}

// reach is visit for goroutines that may not end the test.
func reach(addr string) (*visitor, error) {
	c, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &visitor{c, bufio.NewReader(c)}, nil
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func (v *visitor) say(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(v, s); err != nil {
		t.Error(err)
	}
}

// hear reads an answer.
func (v *visitor) hear() (status int, body string, last bool, err error) {
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return 0, "", false, err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(b)), resp.Close, err
}

func (v *visitor) want200(t *testing.T, what string) {
	t.Helper()
	if status, body, last, err := v.hear(); err != nil || status != http.StatusOK || last {
		t.Errorf("%s: %d %s, the last: %v, %v", what, status, body, last, err)
	}
}

// TestStandstillIsNoClientsFault: the process stands still for longer than its timeouts while
// requests lie in its sockets. None is late: it was not the clients who waited.
func TestStandstillIsNoClientsFault(t *testing.T) {
	t.Parallel()
	const each = 20
	kinds := []struct {
		what   string
		before string // sent before it stands still; a whole request is answered then
		during string
		after  string        // sent when it goes on again,
		pause  time.Duration // so long after that
		late   bool          // connects while it stands still
	}{
		{what: "idle", before: aHit, during: aHit},
		{what: "fresh", during: aHit},
		{what: "with half a request", before: aHit[:20], during: aHit[20:]},
		{what: "with the head of a body", before: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", during: "hello"},
		{what: "connecting", late: true, during: aHit},
		{what: "connecting, and asking later", late: true, after: aHit, pause: 150 * time.Millisecond},
		{what: "connecting with half a request", late: true, during: aHit[:20], after: aHit[20:], pause: 150 * time.Millisecond},
	}
	for _, name := range ownEngines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := begin(t, impatient(name)...)
			for range *standstills {
				visitors := make([][]*visitor, len(kinds))
				visit := func(late bool) {
					for i, k := range kinds {
						for range each {
							if k.late == late {
								visitors[i] = append(visitors[i], p.visit())
							}
						}
					}
				}
				visit(false)
				for i, k := range kinds {
					for _, v := range visitors[i] {
						if k.before != "" {
							v.say(t, k.before)
						}
						if k.before == aHit {
							v.want200(t, k.what)
						}
					}
				}
				p.Signal(syscall.SIGSTOP)
				visit(true)
				for i, k := range kinds {
					for _, v := range visitors[i] {
						v.say(t, k.during)
					}
				}
				time.Sleep(shortTime + shortTime/2)
				p.Signal(syscall.SIGCONT)
				for i, k := range kinds {
					if k.after == "" {
						for _, v := range visitors[i] {
							v.want200(t, k.what)
							v.say(t, aHit)
						}
					}
				}
				time.Sleep(150 * time.Millisecond)
				for i, k := range kinds {
					for _, v := range visitors[i] {
						v.say(t, k.after)
						v.want200(t, k.what+", in the end")
						v.Close()
					}
				}
			}
			p.Stop()
		})
	}
}

// TestStandstillCutsNoSlowReader: a client that takes its answers slowly isn't cut because
// the server stood still.
func TestStandstillCutsNoSlowReader(t *testing.T) {
	t.Parallel()
	const requests = 20_000 // whose answers don't fit into the sockets
	for _, name := range ownEngines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A socket that was full may open late, so requests are let come late.
			p := begin(t, append(impatient(name), "--read-timeout=30s")...)
			v := p.visit()
			if err := v.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = io.WriteString(v, strings.Repeat(aHit, requests))
			}()
			answers := 0
			last := false
			read := func(n int) {
				for range n {
					status, body, closing, err := v.hear()
					if err != nil {
						t.Fatalf("after %d answers: %v", answers, err)
					}
					if answers++; status != http.StatusOK || body != strconv.Itoa(answers) {
						t.Fatalf("answer %d is %d %s", answers, status, body)
					}
					if last = closing; last {
						return
					}
				}
			}
			read(100)
			time.Sleep(100 * time.Millisecond) // it fills the sockets, and waits for us
			p.Signal(syscall.SIGSTOP)
			time.Sleep(shortTime + shortTime/2)
			p.Signal(syscall.SIGCONT)
			time.Sleep(100 * time.Millisecond)
			for answers < requests && !last {
				read(min(requests/100, requests-answers))
				time.Sleep(2 * time.Millisecond)
			}
			if got, want := p.get("/count"), fmt.Sprint(answers); got != want {
				t.Errorf("counted %s, answered %s", got, want)
			}
			v.Close()
			p.Stop()
		})
	}
}
