package main

import (
	"flag"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/engine"
)

var (
	freezeRounds = flag.Int("freeze.rounds", 2, "how often TestFreeze freezes the filesystem, for each engine; in every second round the server is killed")
	freezeFor    = flag.Duration("freeze.for", 1500*time.Millisecond, "for how long")
)

// freezer is a filesystem that can be frozen, as fsfreeze does for a snapshot: whoever
// writes stands still, and can't even be killed.
type freezer struct {
	t   *testing.T
	dir string
}

func newFreezer(t *testing.T) *freezer {
	t.Helper()
	dir, _, _ := disk(t)
	return &freezer{t, dir}
}

func (f *freezer) freeze() (thaw func()) {
	f.t.Helper()
	if out, err := exec.Command("fsfreeze", "-f", f.dir).CombinedOutput(); err != nil {
		f.t.Skipf("freezing a filesystem: %v %s", err, out)
	}
	thaw = sync.OnceFunc(func() {
		if out, err := exec.Command("fsfreeze", "-u", f.dir).CombinedOutput(); err != nil {
			f.t.Errorf("%v %s", err, out)
		}
	})
	f.t.Cleanup(thaw) // before anything that waits for the disk
	return thaw
}

// TestFreeze: the filesystem below the store is frozen under load. Hits and reads get
// 503 in time, who comes is let in, who errs is told, and when it thaws all goes on,
// with nothing lost or doubled; also if the server is killed meanwhile.
func TestFreeze(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	for _, name := range allEngines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFreezer(t)
			store := "--store=file:" + filepath.Join(f.dir, "counterd.db")
			serve := func() *process { return begin(t, "--engine="+name, store, "--store-timeout="+timeout.String()) }
			book := &book{given: make(map[int]bool)}
			for round := range *freezeRounds {
				p := serve()
				l := book.hitters(p, 100)
				eventually(t, "it counts", func() bool { return l.numbers.Load() > 200 })
				thaw := f.freeze()
				// What stood on its way to the disk before it froze is answered by now.
				time.Sleep(timeout + 300*time.Millisecond)
				late := p.watchFreeze(timeout, *freezeFor)
				if name != engine.Gnet && late > 0 {
					late-- // the one whose goroutine waits for the disk itself, and may ask for a number or a read
				}
				if late > 0 {
					t.Errorf("round %d: %d answers took longer than %v", round, late, timeout+200*time.Millisecond)
				}
				killed := round%2 == 1
				if killed {
					p.Signal(unix.SIGKILL)
					l.killed.Store(true)
				}
				thaw()
				if killed {
					<-p.Ended()
				} else {
					before := l.numbers.Load()
					eventually(t, "it counts again", func() bool { return l.numbers.Load() > before+200 })
				}
				l.end()
				slow := l.slow(timeout + 200*time.Millisecond)
				if name != engine.Gnet && slow > 0 {
					slow--
				}
				if slow > 0 {
					t.Errorf("round %d: %d hits of the load were answered later than %v", round, slow, timeout+200*time.Millisecond)
				}
				if killed {
					p = serve()
				}
				book.check(p, round)
				p.Stop()
			}
		})
	}
}

// watchFreeze asks a frozen server everything, again and again. It returns how many
// answers were late.
func (p *process) watchFreeze(timeout, d time.Duration) (late int) {
	p.t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	ask := func(what, request string, status int, within time.Duration) {
		all.Go(func() {
			began := time.Now()
			v, err := reach(p.listen)
			if err != nil {
				p.t.Errorf("%s: %v", what, err)
				return
			}
			defer v.Close()
			_, _ = v.Write([]byte(request))
			got, body, _, err := v.hear()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || got != status {
				p.t.Errorf("%s: %d %s, %v; want %d", what, got, body, err, status)
			}
			if took := time.Since(began); took > within+200*time.Millisecond {
				late++
				p.t.Logf("%s took %v", what, took)
			}
		})
	}
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		ask("a hit", aHit, http.StatusServiceUnavailable, timeout)
		ask("a read", "GET /count HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusServiceUnavailable, timeout)
		ask("a malformed request", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", http.StatusBadRequest, 0)
		ask("a CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", http.StatusNotImplemented, 0)
	}
	all.Wait()
	return late
}

// book is what all clients of a store have been told, over restarts.
type book struct {
	mu    sync.Mutex
	given map[int]bool
	sent  int
	wrong []string
}

func (b *book) check(p *process, round int) {
	p.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	count, _ := strconv.Atoi(p.get("/count"))
	highest := 0
	for n := range b.given {
		highest = max(highest, n)
	}
	if count < len(b.given) || count < highest || count > b.sent {
		p.t.Errorf("round %d: count %d after %d numbers up to %d, and %d hits sent", round, count, len(b.given), highest, b.sent)
	}
	if len(b.wrong) > 0 {
		p.t.Errorf("round %d: %d answers went wrong: %.500q", round, len(b.wrong), b.wrong)
	}
	p.t.Logf("round %d: count %d, %d numbers, %d sent", round, count, len(b.given), b.sent)
}

// hitters are clients that hit, each on its connection.
type hitters struct {
	book    *book
	numbers atomic.Int64 // answered 200
	killed  atomic.Bool  // then connections may end
	stop    chan struct{}
	clients sync.WaitGroup

	mu   sync.Mutex
	took []time.Duration
}

func (b *book) hitters(p *process, n int) *hitters {
	p.t.Helper()
	l := &hitters{book: b, stop: make(chan struct{})}
	for range n {
		v := p.visit()
		l.clients.Go(func() {
			defer v.Close()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				b.mu.Lock()
				b.sent++
				b.mu.Unlock()
				began := time.Now()
				_ = v.SetDeadline(began.Add(time.Minute))
				_, _ = v.Write([]byte(aHit))
				status, body, _, err := v.hear()
				if err != nil && l.killed.Load() {
					return
				}
				l.answered(status, body, err, time.Since(began))
				if err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *hitters) answered(status int, body string, err error, took time.Duration) {
	l.mu.Lock()
	l.took = append(l.took, took)
	l.mu.Unlock()
	b := l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bad := strconv.Atoi(body)
	switch {
	case err == nil && status == http.StatusOK && bad == nil && !b.given[n]:
		b.given[n] = true
		l.numbers.Add(1)
	case err == nil && status == http.StatusServiceUnavailable:
	default:
		b.wrong = append(b.wrong, fmt.Sprintf("%d %s, %v", status, body, err))
	}
}

func (l *hitters) end() {
	close(l.stop)
	l.clients.Wait()
}

func (l *hitters) slow(bound time.Duration) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.took {
		if d > bound {
			n++
		}
	}
	return n
}

// TestFreezeWithFewDescriptors: there are as many connections as there may be, and no
// second descriptor for each of them to leave its loop with. They are told, none hangs,
// and when it thaws all is as it was.
func TestFreezeWithFewDescriptors(t *testing.T) {
	t.Parallel()
	f := newFreezer(t)
	cmd := command(nil, "--store=file:"+filepath.Join(f.dir, "counterd.db"), "--store-timeout=500ms")
	cmd.Args = append([]string{"sh", "-c", `ulimit -n 256; exec "$0" "$@"`}, cmd.Args...)
	if cmd.Path, cmd.Err = exec.LookPath("sh"); cmd.Err != nil {
		t.Fatal(cmd.Err)
	}
	p := listening(t, cmd)
	most := p.metric("counterd_connections_max")
	in := p.crowd(most)
	if in.got["200"] != most {
		t.Fatalf("%v of %d", in.got, most)
	}
	eventually(t, "the disk is quick: the loop commits itself", func() bool {
		asked := time.Now()
		in.visitors[0].ask()
		return time.Since(asked) < 2*time.Millisecond
	})
	thaw := f.freeze()
	var asking sync.WaitGroup
	var mu sync.Mutex
	got := make(map[string]int)
	began := time.Now()
	for _, v := range in.visitors {
		asking.Go(func() {
			a := v.ask()
			mu.Lock()
			defer mu.Unlock()
			got[a]++
		})
	}
	asking.Wait()
	if took := time.Since(began); got["503"] != most || took > 2*time.Second {
		t.Errorf("after %v: %v of %d", took, got, most)
	}
	p.Await("the disk doesn't answer")
	if code, _ := get(t, "http://"+p.admin+"/healthz"); code != http.StatusOK {
		t.Errorf("the admin listener answers %d", code)
	}
	if s := p.crowd(20); s.got["503"]+s.got["closed"] != 20 { // whether there is room for some or none
		t.Errorf("who comes gets %v", s.got)
	}
	if strings.Contains(p.Log(), "too many open files") {
		t.Errorf("it ran out of descriptors:\n%s", p.Log())
	}
	thaw()
	in.leave()
	eventually(t, "all have left", func() bool { return p.metric("counterd_connections_open") == 0 })
	if again := p.crowd(most); again.got["200"] != most {
		t.Errorf("afterwards %v of %d", again.got, most)
	} else {
		again.leave()
	}
	p.Stop()
}

// TestStopOnFrozenDisk: it gives up at the end of its time and says so, though the
// kernel keeps the process until the disk thaws.
func TestStopOnFrozenDisk(t *testing.T) {
	t.Parallel()
	for _, name := range allEngines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFreezer(t)
			p := begin(t, "--engine="+name, "--store=file:"+filepath.Join(f.dir, "counterd.db"), "--store-timeout=30s", "--drain-timeout=1s")
			p.get("/")
			thaw := f.freeze()
			v := p.visit()
			_, _ = v.Write([]byte(aHit))
			time.Sleep(200 * time.Millisecond)
			began := time.Now()
			p.Signal(unix.SIGTERM)
			p.Await(`level=ERROR msg="did not stop cleanly"`)
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("it took %v", took)
			}
			thaw()
			p.Wait(1)
		})
	}
}
