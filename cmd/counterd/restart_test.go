package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
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
	"github.com/counterd/counterd/internal/proctest"
)

var (
	restarts = flag.Int("restarts", 3, "restarts under load, for each engine and each way")
	together = flag.Int("together", 2, "rounds in which several processes start together, for each number of them")
	standbys = flag.Int("standbys", 6, "rounds in which a standby comes to harm, for each engine")
)

// most is how long a request may take while one of two processes lives and runs.
const most = time.Second

// load hits a counter without pause through restarts, and notes everything that
// is answered.
type load struct {
	t    *testing.T
	addr string
	stop atomic.Bool
	wg   sync.WaitGroup

	answered atomic.Int64
	cut      atomic.Int64 // requests on a connection that was idle before, lost in its close
	slowest  atomic.Int64 // nanoseconds from the connect, or the request, to the answer

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
	begin := time.Now()
	d := net.Dialer{LocalAddr: from, Timeout: 20 * time.Second}
	c, err := d.Dial("tcp", l.addr)
	if err != nil && l.stop.Load() {
		return // the server may have been stopped by now
	}
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
			l.t.Errorf("request %d of a connection, after %v: %v", i, time.Since(begin), err)
			return
		case resp.StatusCode != http.StatusOK:
			l.t.Errorf("request %d of a connection: %s %s", i, resp.Status, body)
			return
		}
		l.note(string(body), time.Since(begin))
		begin = time.Now()
		if resp.Close {
			return
		}
	}
}

// note records an answer that took so long.
func (l *load) note(body string, took time.Duration) {
	for old := l.slowest.Load(); int64(took) > old && !l.slowest.CompareAndSwap(old, int64(took)); {
		old = l.slowest.Load()
	}
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
	l.end()
}

// end ends the load.
func (l *load) end() {
	l.t.Helper()
	l.stop.Store(true)
	l.wg.Wait()
	slowest := time.Duration(l.slowest.Load())
	if slowest > most {
		l.t.Errorf("an answer took %v", slowest)
	}
	l.t.Logf("%d hits, the slowest took %v, %d requests on idle connections cut", l.answered.Load(), slowest, l.cut.Load())
}

// takesOver is a newcomer for p's store and ports that waits.
func takesOver(p *process, args ...string) *process {
	p.t.Helper()
	newcomer := launch(p.t, command(nil, append(args, "--listen="+p.listen, "--admin="+p.admin)...))
	newcomer.Await(`msg="waiting for another process to let go" of="the store"\n`)
	return newcomer
}

// everyEngine runs test for each.
func everyEngine(t *testing.T, test func(t *testing.T, e string)) {
	for _, e := range []string{engine.Gnet, engine.Goroutine, engine.Std} {
		t.Run(e, func(t *testing.T) { test(t, e) })
	}
}

// TestRestartGoesUnnoticed: newcomers take over port, file and admin port without a client
// noticing.
func TestRestartGoesUnnoticed(t *testing.T) {
	everyEngine(t, func(t *testing.T, e string) {
		args := []string{"--engine=" + e, "--store=file:" + filepath.Join(t.TempDir(), "counterd.db"), "--takeover-timeout=30s"}
		old := begin(t, args...)
		l := hit(t, old.listen)
		for i := range *restarts {
			l.some(200)
			newcomer := takesOver(old, append(args, fmt.Sprintf("--reuse-port=%t", i%2 == 0))...)
			l.some(200) // it takes nothing from the one that serves
			old.Stop()
			newcomer.awaitListening()
			if newcomer.admin != old.admin {
				t.Errorf("the admin listener is %s, want %s", newcomer.admin, old.admin)
			}
			old = newcomer
		}
		l.some(200)
		l.finish(old)
	})
}

// TestStartedTogether: of several that start at once on a store that doesn't exist
// yet one serves, and the others take over one by one.
func TestStartedTogether(t *testing.T) {
	for _, n := range []int{2, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			for round := range *together {
				e := []string{engine.Gnet, engine.Goroutine, engine.Std}[round%3]
				args := []string{"--engine=" + e, "--store=file:" + filepath.Join(t.TempDir(), "counterd.db"),
					"--listen=" + proctest.FreeAddr(t), "--admin=", "--takeover-timeout=1m"}
				var all []*process
				for range n {
					all = append(all, launch(t, command(nil, args...)))
				}
				p := serving(t, &all)
				l := hit(t, p.listen)
				for len(all) > 0 {
					for _, w := range all {
						w.Await(`msg="waiting for another process to let go" of="the store"\n`)
					}
					l.some(100)
					if round%2 == 0 {
						p.Stop()
					} else {
						// Not under load: a process that is killed owes answers.
						l.end()
						p.Kill()
						l = hit(t, p.listen)
					}
					p = serving(t, &all)
				}
				l.some(100)
				l.end()
				p.Stop()
			}
		})
	}
}

// serving waits until one of all listens, and takes it out.
func serving(t *testing.T, all *[]*process) *process {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		i := slices.IndexFunc(*all, func(p *process) bool { return strings.Contains(p.Log(), "msg=listening") })
		if i >= 0 {
			p := (*all)[i]
			*all = slices.Delete(*all, i, i+1)
			p.awaitListening()
			return p
		}
	}
	t.Fatal("nobody serves")
	return nil
}

// TestStandbyComesToHarm: at any age it may give up, be stopped, killed or stand
// still. Whoever serves notices nothing, also when it is told to stop itself.
func TestStandbyComesToHarm(t *testing.T) {
	everyEngine(t, func(t *testing.T, e string) {
		store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
		p := begin(t, "--engine="+e, store)
		l := hit(t, p.listen)
		upload := halfRequest(t, p)
		uploaded := int64(0)
		standby := func(timeout string) *process {
			return launch(t, command(nil, "--engine="+e, store, "--listen="+p.listen, "--admin="+p.admin, "--takeover-timeout="+timeout))
		}
		for round := range *standbys {
			s := standby("1m")
			time.Sleep(time.Duration(round*7%50) * time.Millisecond) // of its start
			s.Signal([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGSTOP}[round%3])
			l.some(20)
		}
		standby("100ms").Wait(1)
		l.some(100)
		if res := upload(); res.StatusCode != http.StatusOK {
			t.Error(res.Status)
		}
		uploaded++
		l.stop.Store(true)
		l.wg.Wait()
		if got, want := p.get("/count"), fmt.Sprint(l.answered.Load()+uploaded); got != want {
			t.Errorf("the count is %s, but %s hits were answered", got, want)
		}
		l.end()

		// Told to stop while somebody waits, it ends well whatever happens to that one.
		dies := takesOver(p, "--engine="+e, store, "--takeover-timeout=1m")
		upload = halfRequest(t, p)
		p.Signal(syscall.SIGTERM)
		dies.Await(`msg="the other process was told to stop"`)
		dies.Signal(syscall.SIGKILL)
		time.Sleep(100 * time.Millisecond)
		if res := upload(); res.StatusCode != http.StatusOK {
			t.Error(res.Status)
		}
		p.Wait(0)
	})
}

// TestStandbyIsOlderThanItsTimeout: the holder was told to stop in time, and drains for
// longer than the standby's patience would have lasted.
func TestStandbyIsOlderThanItsTimeout(t *testing.T) {
	t.Parallel()
	store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
	p := begin(t, store)
	newcomer := takesOver(p, store, "--takeover-timeout=3s")
	upload := halfRequest(t, p)
	time.Sleep(1500 * time.Millisecond)
	p.Signal(syscall.SIGTERM)
	newcomer.Await(`msg="the other process was told to stop"`)
	time.Sleep(3 * time.Second)
	if res := upload(); res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
	p.Wait(0)
	newcomer.awaitListening()
	if got := newcomer.get("/"); got != "2" {
		t.Errorf("the hit after the upload got %s", got)
	}
}

// TestSlowUploadBesideRestart: while a request takes its time, others are answered,
// and its answer comes from the one that it was sent to.
func TestSlowUploadBesideRestart(t *testing.T) {
	everyEngine(t, func(t *testing.T, e string) {
		store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
		p := begin(t, "--engine="+e, store)
		newcomer := takesOver(p, "--engine="+e, store, "--takeover-timeout=30s")
		l := hit(t, p.listen)
		upload := halfRequest(t, p)
		l.some(100)
		p.Signal(syscall.SIGTERM)
		time.Sleep(2 * most)
		l.some(100)
		if strings.Contains(newcomer.Log(), "msg=listening") {
			t.Error("the newcomer serves while the old one has the store")
		}
		if res := upload(); res.StatusCode != http.StatusOK || !res.Close {
			t.Errorf("%s, close=%t", res.Status, res.Close)
		}
		p.Wait(0)
		newcomer.awaitListening()
		l.some(100)
		l.end()
		if got, want := newcomer.get("/count"), fmt.Sprint(l.answered.Load()+1); got != want {
			t.Errorf("the count is %s, but %s hits were answered", got, want)
		}
	})
}

// TestSilentClientsBesideRestart: clients that connect and say nothing, and clients
// that don't hang up after their last answer, make nobody wait for the store.
func TestSilentClientsBesideRestart(t *testing.T) {
	everyEngine(t, func(t *testing.T, e string) {
		args := []string{"--engine=" + e, "--store=file:" + filepath.Join(t.TempDir(), "counterd.db"), "--takeover-timeout=30s"}
		old := begin(t, args...)
		l := hit(t, old.listen)
		silent := make(chan struct{})
		l.wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-silent:
					return
				case <-time.After(20 * time.Millisecond):
				}
				c, err := net.Dial("tcp", l.addr)
				if err != nil {
					t.Errorf("connect: %v", err)
					continue
				}
				defer c.Close()
				if i%2 == 0 {
					continue
				}
				fmt.Fprint(c, "GET /count HTTP/1.1\r\nHost: h\r\n\r\n") // and it never reads
			}
		})
		for range *restarts {
			l.some(200)
			newcomer := takesOver(old, args...)
			old.Stop()
			newcomer.awaitListening()
			old = newcomer
		}
		l.some(200)
		close(silent)
		l.finish(old)
	})
}

// TestTakingOverIsRefused: another address or user is told so at once.
func TestTakingOverIsRefused(t *testing.T) {
	t.Parallel()
	store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
	p := begin(t, store)
	wantStartFailure(t, "not on 127.0.0.2:0", store, "--listen=127.0.0.2:0", "--takeover-timeout=1m")
	if os.Geteuid() == 0 {
		if path, err := exec.LookPath("unshare"); err == nil {
			cmd := proctest.Command(binary, []string{store, "--takeover-timeout=1m", "--listen=" + p.listen}, path, "--net")
			other := launch(t, cmd)
			other.Wait(1)
			other.Await(`level=ERROR msg="cannot start" err=".*another network namespace`)
		}
	}
	if got := p.get("/"); got != "1" {
		t.Errorf("the first hit got %s", got)
	}
	p.Stop()
}

// TestNoSocketForNewcomers: in a directory that can't be written nobody can take over,
// which is said once, and a restart has a gap.
func TestNoSocketForNewcomers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "counterd.db")
	if err := os.Mkdir(file+".sock", 0o700); err != nil {
		t.Fatal(err)
	}
	p := begin(t, "--store=file:"+file)
	p.Await(`level=WARN msg="no socket can be handed over: a restart will have a gap"`)
	newcomer := launch(t, command(nil, "--store=file:"+file, "--listen="+p.listen, "--admin="+p.admin, "--takeover-timeout=1m"))
	newcomer.Await(`msg="waiting for another process to let go" of="the store" but=`)
	p.Stop()
	newcomer.awaitListening()
	newcomer.Stop()
}

// TestOneStandbyTakesOver: of several that wait, one takes over from a process that dies, and
// the others go on waiting without keeping a client from it.
func TestOneStandbyTakesOver(t *testing.T) {
	store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
	p := begin(t, store)
	args := []string{store, "--takeover-timeout=10m", "--listen=" + p.listen, "--admin="}
	var standby []*process
	for range 3 {
		s := launch(t, command(nil, args...))
		s.Await(`msg="waiting for another process`)
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
		p.Kill()
		p = serving(t, &standby)
	}
}

// TestRestartWithSocketActivation: the socket stays with the manager, here the
// test, and connections queue while nobody serves.
func TestRestartWithSocketActivation(t *testing.T) {
	linuxOnly(t)
	everyEngine(t, func(t *testing.T, e string) {
		ln := listenTCP(t)
		args := []string{"--engine=" + e, "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")}
		p := listening(t, activated(t, ln, nil, args...))
		l := hit(t, p.listen)
		for range *restarts {
			l.some(200)
			p.Stop()
			p = listening(t, activated(t, ln, nil, args...))
		}
		l.some(200)
		l.finish(p)
	})
}

// TestSharedPortNeedsBoth: a port that is not shared is taken.
func TestSharedPortNeedsBoth(t *testing.T) {
	linuxOnly(t)
	p := begin(t, "--store=mem:")
	wantStartFailure(t, "in use", "--listen="+p.listen, "--reuse-port")
	p.Stop()
}
