package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/engine"
)

var restarts = flag.Int("restarts", 3, "restarts under load, for each engine and each way")

// load hits a counter without pause through restarts, and notes everything that
// is answered.
type load struct {
	t    *testing.T
	addr string
	stop atomic.Bool
	wg   sync.WaitGroup

	answered atomic.Int64
	cut      atomic.Int64 // requests on a connection that was idle before, lost in its close

	mu   sync.Mutex
	seen map[int64]bool
}

// hit loads addr with connections of one request and with kept ones.
func hit(t *testing.T, addr string) *load {
	l := &load{t: t, addr: addr, seen: map[int64]bool{}}
	for i := range 8 {
		// Many source addresses, so that ports don't run out.
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i))}
		requests := 1
		if i%2 == 1 {
			requests = 50
		}
		l.wg.Go(func() {
			for !l.stop.Load() {
				l.connection(from, requests)
			}
		})
	}
	return l
}

// connection makes one connection with up to n requests, one after the other.
func (l *load) connection(from net.Addr, n int) {
	d := net.Dialer{LocalAddr: from, Timeout: 20 * time.Second}
	c, err := d.Dial("tcp", l.addr)
	if err != nil {
		l.t.Errorf("connect: %v", err)
		return
	}
	defer c.Close()
	// A listener that nobody serves would otherwise hold the test for ever.
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		l.t.Error(err)
		return
	}
	r := bufio.NewReader(c)
	for i := range n {
		last := i == n-1
		end := "\r\n"
		if last {
			end = "Connection: close\r\n\r\n"
		}
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n"+end)
		var resp *http.Response
		if err == nil {
			resp, err = http.ReadResponse(r, nil)
		}
		var body []byte
		if err == nil {
			body, err = io.ReadAll(resp.Body)
		}
		switch {
		case err != nil && i > 0 && len(body) == 0:
			l.cut.Add(1)
			return
		case err != nil:
			l.t.Errorf("request %d of a connection: %v", i, err)
			return
		case resp.StatusCode != http.StatusOK:
			l.t.Errorf("request %d of a connection: %s %s", i, resp.Status, body)
			return
		}
		l.note(string(body))
		if resp.Close {
			return
		}
	}
}

// note records an answer.
func (l *load) note(body string) {
	n, err := strconv.ParseInt(strings.TrimSuffix(body, "\n"), 10, 64)
	if err != nil {
		l.t.Error(err)
		return
	}
	l.answered.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[n] {
		l.t.Errorf("the number %d was given twice", n)
	}
	l.seen[n] = true
}

// some waits until n more hits were answered.
func (l *load) some(n int64) {
	l.t.Helper()
	enough := l.answered.Load() + n
	for end := time.Now().Add(60 * time.Second); l.answered.Load() < enough; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("%d hits were answered within a minute, want %d", n-enough+l.answered.Load(), n)
		}
	}
}

// finish ends the load and compares the count: exactly what was answered. What
// was cut was not counted.
func (l *load) finish(p *process) {
	l.t.Helper()
	l.stop.Store(true)
	l.wg.Wait()
	if got, want := p.get("/count"), fmt.Sprint(l.answered.Load()); got != want {
		l.t.Errorf("the count is %s, but %s hits were answered", got, want)
	}
	l.t.Logf("%d hits over %d restarts, %d requests on idle connections cut", l.answered.Load(), *restarts, l.cut.Load())
}

// TestRestartWithSharedPort: newcomers take over port, file and admin port
// without a client noticing.
func TestRestartWithSharedPort(t *testing.T) {
	linuxOnly(t)
	for _, e := range []string{engine.Gnet, engine.Goroutine, engine.Std} {
		t.Run(e, func(t *testing.T) {
			args := []string{"--engine=" + e, "--store=file:" + filepath.Join(t.TempDir(), "counterd.db"), "--reuse-port", "--takeover-timeout=30s"}
			old := begin(t, args...)
			l := hit(t, old.listen)
			args = append(args, "--listen="+old.listen, "--admin="+old.admin)
			for range *restarts {
				l.some(200)
				newcomer := launch(t, command(nil, args...))
				newcomer.await(`msg="waiting for another process to let go" of="the port"`)
				// It waits, and takes nothing from the one that serves.
				l.some(200)
				old.stop()
				newcomer.awaitListening()
				old = newcomer
			}
			l.some(200)
			l.finish(old)
		})
	}
}

// TestNewcomerGivesUp: one that waits in vain has disturbed nobody.
func TestNewcomerGivesUp(t *testing.T) {
	linuxOnly(t)
	args := []string{"--store=file:" + filepath.Join(t.TempDir(), "counterd.db"), "--reuse-port"}
	p := begin(t, args...)
	l := hit(t, p.listen)
	for range *restarts {
		newcomer := launch(t, command(nil, append(args, "--listen="+p.listen, "--admin="+p.admin, "--takeover-timeout=200ms")...))
		newcomer.wait(1)
	}
	l.some(200)
	l.finish(p)
}

// TestStandby: of several that wait, one takes over from a process that dies, and
// the others go on waiting without keeping a client from it.
func TestStandby(t *testing.T) {
	linuxOnly(t)
	store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
	p := begin(t, store, "--reuse-port")
	args := []string{store, "--reuse-port", "--takeover-timeout=10m", "--listen=" + p.listen, "--admin="}
	var standby []*process
	for range 3 {
		s := launch(t, command(nil, args...))
		s.await(`msg="waiting for another process`)
		standby = append(standby, s)
	}
	hits := 0
	for range 3 {
		for range 20 {
			hits++
			if got := p.get("/"); got != fmt.Sprint(hits) {
				t.Fatalf("hit %d got %s", hits, got)
			}
		}
		p.signal(syscall.SIGKILL)
		<-p.ended
		i := -1
		for end := time.Now().Add(30 * time.Second); i < 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nobody takes over")
			}
			i = slices.IndexFunc(standby, func(s *process) bool { return strings.Contains(s.logged(), "msg=listening") })
		}
		p = standby[i]
		p.awaitListening()
		standby = slices.Delete(standby, i, i+1)
	}
}

// TestRestartWithSocketActivation: the socket stays with the manager, here the
// test, and connections queue while nobody serves.
func TestRestartWithSocketActivation(t *testing.T) {
	linuxOnly(t)
	for _, e := range []string{engine.Gnet, engine.Goroutine, engine.Std} {
		t.Run(e, func(t *testing.T) {
			ln := listenTCP(t)
			args := []string{"--engine=" + e, "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")}
			p := listening(t, activated(t, ln, nil, args...))
			l := hit(t, p.listen)
			for range *restarts {
				l.some(200)
				p.stop()
				p = listening(t, activated(t, ln, nil, args...))
			}
			l.some(200)
			l.finish(p)
		})
	}
}

// TestSharedPortNeedsBoth: a port that is not shared is taken.
func TestSharedPortNeedsBoth(t *testing.T) {
	linuxOnly(t)
	p := begin(t, "--store=mem:")
	wantStartFailure(t, "in use", "--listen="+p.listen, "--reuse-port")
	p.signal(syscall.SIGTERM)
	p.wait(0)
}
