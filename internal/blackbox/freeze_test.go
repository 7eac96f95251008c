package blackbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

var freezes = flag.Int("freezes", 6, "how often the disk of TestDiskHangs hangs, for each engine")

// freezable is a disk that can hang. Then nothing bounds Add, as with a frozen
// filesystem.
type freezable struct {
	mu     sync.Mutex
	frozen chan struct{} // not nil: Add waits until it is closed
	stuck  atomic.Int32  // calls of Add that wait
	total  int64
}

func (d *freezable) Add(_ context.Context, deltas []counter.Delta) (int64, error) {
	d.mu.Lock()
	frozen := d.frozen
	d.mu.Unlock()
	if frozen != nil {
		d.stuck.Add(1)
		<-frozen
		d.stuck.Add(-1)
	}
	for i := range deltas {
		d.total += deltas[i].Hits
	}
	for i := range deltas {
		deltas[i].Total = d.total
	}
	return d.total, nil
}

func (d *freezable) Close() error { return nil }

func (d *freezable) freeze() (thaw func()) {
	frozen := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = frozen
	return sync.OnceFunc(func() {
		d.mu.Lock()
		d.frozen = nil
		d.mu.Unlock()
		close(frozen)
	})
}

// lag measures by how much this machine is late: what a bound can't be blamed for.
type lag struct {
	worst atomic.Int64
	stop  chan struct{}
	ended sync.WaitGroup
}

func measureLag() *lag {
	l := &lag{stop: make(chan struct{})}
	l.ended.Go(func() {
		for {
			began := time.Now()
			select {
			case <-l.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			l.worst.Store(max(l.worst.Load(), int64(time.Since(began)-5*time.Millisecond)))
		}
	})
	return l
}

// end returns what a bound is to be lengthened by: a request meets some four
// goroutines on its way, and each may be late.
func (l *lag) end() time.Duration {
	close(l.stop)
	l.ended.Wait()
	return 4 * time.Duration(l.worst.Load())
}

// ledger is what clients know of the count.
type ledger struct {
	mu     sync.Mutex
	given  map[int64]bool // numbers
	sent   int64          // hits, whole ones, at most
	failed int64          // answered 503
	waited []time.Duration
	wrong  []string
}

// sending is called before hits are sent.
func (l *ledger) sending(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent += int64(n)
}

func (l *ledger) answered(a answer, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waited = append(l.waited, time.Since(since))
	switch n := a.number(); {
	case n > 0 && !l.given[n]:
		l.given[n] = true
	case a.status == 503 && a.fields.Get("Retry-After") != "":
		l.failed++
	default:
		l.wrong = append(l.wrong, fmt.Sprintf("%d %q", a.status, a.body))
	}
}

func (l *ledger) lost(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// TestDiskHangs: the disk hangs again and again, at any moment of what clients do.
// Every hit is answered in time, the first that waits for the disk itself excepted;
// who comes is let in; and nothing is lost or doubled.
func TestDiskHangs(t *testing.T) {
	oneByOne(t, engines, func(t *testing.T, name string) {
		const timeout = 300 * time.Millisecond
		d := &freezable{}
		s := start(t, name, d, func(o *options) { o.Disk, o.storeTimeout = true, timeout })
		l := &ledger{given: make(map[int64]bool)}
		late := measureLag()
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for i, do := range hangers {
			for range hangerCounts[i] {
				clients.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						c, err := connect(s.addr)
						if err != nil {
							l.lost("connect: %v", err)
							return
						}
						do(c, l, name, stop)
						c.Close()
					}
				})
			}
		}
		for i := range *freezes {
			time.Sleep(rand.N(50 * time.Millisecond))
			if i%3 == 0 { // again at once
				d.freeze()()
			}
			thaw := d.freeze()
			time.Sleep(rand.N(2 * timeout))
			thaw()
		}
		close(stop)
		clients.Wait()
		// The one whose goroutine commits waits as long as the disk hangs.
		bound, exempt := timeout+200*time.Millisecond+late.end(), *freezes+*freezes/3
		if name == engine.Gnet {
			exempt = 0
		}
		over := 0
		for _, w := range l.waited {
			if w > bound {
				over++
			}
		}
		t.Logf("%d hits sent, %d numbers, %d times 503; %d of them took longer than %v", l.sent, len(l.given), l.failed, over, bound)
		if len(l.given) == 0 {
			t.Error("nobody got a number")
		}
		if over > exempt {
			t.Errorf("%d answers took longer than %v", over, bound)
		}
		if len(l.wrong) > 0 {
			t.Errorf("%d went wrong: %.1000q", len(l.wrong), l.wrong)
		}
		wait(t, "all connections are closed, and nobody counts any more", func() bool { return s.Stats().Open == 0 })
		if n := s.count(); n != d.total || n < int64(len(l.given)) || n > l.sent {
			t.Errorf("counted %d, kept %d; %d numbers, %d sent", n, d.total, len(l.given), l.sent)
		}
		s.shutdown()
	})
}

var hangerCounts = []int{100, 5, 5, 5, 3, 2}

// hangers are what clients do, one connection each time.
var hangers = []func(c *client, l *ledger, name string, stop <-chan struct{}){
	hitOften, pipeline, hitAndHalfClose, hitAndReset, malformed, readSlowly,
}

func hitOften(c *client, l *ledger, _ string, stop <-chan struct{}) {
	for range rand.IntN(100) {
		select {
		case <-stop:
			return
		default:
		}
		l.sending(1)
		began := time.Now()
		io.WriteString(c, get)
		a, err := c.read("GET")
		if err != nil {
			l.lost("a hit: %v", err)
			return
		}
		l.answered(a, began)
		time.Sleep(rand.N(10 * time.Millisecond))
	}
}

// pipeline sends more than may be owed. What stands behind others begins to wait for
// the store only when they are answered, so nothing is said of its time.
func pipeline(c *client, l *ledger, name string, _ <-chan struct{}) {
	n := 1 + rand.IntN(500)
	if name == engine.Std {
		n = 1 // one after the other would take long
	}
	l.sending(n)
	go io.WriteString(c, strings.Repeat(get, n))
	answers(c, l, n)
}

func hitAndHalfClose(c *client, l *ledger, name string, _ <-chan struct{}) {
	n := 1 + rand.IntN(3)
	if name == engine.Std {
		n = 1
	}
	l.sending(n)
	io.WriteString(c, strings.Repeat(get, n))
	c.CloseWrite()
	answers(c, l, n)
	if _, err := c.read("GET"); !errors.Is(err, io.EOF) {
		l.lost("after a half-close: %v", err)
	}
}

func answers(c *client, l *ledger, n int) {
	for i := range n {
		a, err := c.read("GET")
		if err != nil {
			l.lost("answer %d of %d: %v", i+1, n, err)
			return
		}
		l.answered(a, time.Now())
	}
}

func hitAndReset(c *client, l *ledger, _ string, _ <-chan struct{}) {
	l.sending(2)
	io.WriteString(c, get+get+"GET")
	time.Sleep(rand.N(200 * time.Millisecond))
	c.reset()
}

func malformed(c *client, l *ledger, _ string, _ <-chan struct{}) {
	time.Sleep(rand.N(20 * time.Millisecond))
	began := time.Now()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost : a\r\n\r\n")
	a, err := c.read("GET")
	if err != nil || a.status != 400 {
		l.lost("malformed: %d, %v", a.status, err)
	}
	l.mu.Lock()
	l.waited = append(l.waited, time.Since(began))
	l.mu.Unlock()
}

func readSlowly(c *client, l *ledger, name string, stop <-chan struct{}) {
	if name == engine.Std {
		return
	}
	const n = 1000
	c.SetReadBuffer(16 << 10)
	l.sending(n)
	go io.WriteString(c, strings.Repeat(get, n))
	for i := range n {
		a, err := c.read("GET")
		if err != nil {
			l.lost("a slow reader's answer %d: %v", i, err)
			return
		}
		l.answered(a, time.Now())
		if a.close {
			return
		}
		if i%100 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// TestStopWhileDiskHangs: a stop ends in its time though the disk hangs, and says that
// it wasn't clean if somebody is owed an answer. When the disk answers in time, it is.
func TestStopWhileDiskHangs(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		for _, tc := range []struct {
			what             string
			timeout, silence time.Duration // of the store; how long it hangs once we stop
			clean            bool
		}{
			{"for ever", patience, patience, false},
			{"and answers in time", patience, 200 * time.Millisecond, true},
		} {
			t.Run(tc.what, func(t *testing.T) {
				d := &freezable{}
				s := start(t, name, d, func(o *options) { o.Disk, o.storeTimeout = true, tc.timeout })
				var clients []*client
				for range 20 {
					c := s.dial()
					c.send(get)
					c.want(200)
					clients = append(clients, c)
				}
				thaw := d.freeze()
				defer thaw()
				for _, c := range clients[:10] {
					c.send(get)
				}
				wait(t, "somebody waits for the disk", func() bool { return d.stuck.Load() > 0 })
				time.Sleep(rand.N(300 * time.Millisecond)) // before a loop is relieved, or after
				time.AfterFunc(tc.silence, thaw)
				const drain = 3 * time.Second // net/http closes idle connections late
				ctx, cancel := context.WithTimeout(t.Context(), drain)
				defer cancel()
				began := time.Now()
				err := s.Shutdown(ctx)
				if took := time.Since(began); took > drain+slack {
					t.Errorf("it took %v", took)
				}
				if (err == nil) != tc.clean {
					t.Errorf("stopped with %v", err)
				}
				if tc.clean {
					for _, c := range clients[:10] {
						c.want(200)
					}
				}
			})
		}
	})
}

// TestDiskHangsWithFewDescriptors: of the connections of a loop that waits for the disk
// only some can have the second descriptor with which they leave it. The others are
// told 503 at once, and count until they are closed.
func TestDiskHangsWithFewDescriptors(t *testing.T) {
	const conns, spare = 40, 15
	d := &freezable{}
	s := start(t, engine.Gnet, d, func(o *options) {
		o.Disk, o.Loops, o.storeTimeout = true, 1, 300*time.Millisecond
		o.MaxConns, o.MaxDescriptors = conns+10, conns+spare
	})
	var clients []*client
	for range conns {
		c := s.dial()
		c.send(get)
		c.want(200)
		clients = append(clients, c)
	}
	wait(t, "the disk is quick: the loop commits itself", func() bool {
		asked := time.Now()
		clients[0].send(get)
		clients[0].want(200)
		return time.Since(asked) < 2*time.Millisecond
	})
	thaw := d.freeze()
	defer thaw()
	clients[0].send(get)
	wait(t, "the loop waits for the disk", func() bool { return d.stuck.Load() > 0 })
	for i, c := range clients[1:] {
		if i%2 == 0 {
			c.send(get)
		} else {
			c.send(get[:10]) // a part lies in the socket, too
		}
	}
	kept := 0
	for i, c := range clients {
		if i%2 == 0 && i > 0 {
			c.send(get[10:]) // before or after it was told
		}
		switch a := c.want(503); {
		case !a.close:
			kept++
		default:
			c.wantEnd()
		}
	}
	if kept != spare {
		t.Errorf("%d connections are kept, want %d", kept, spare)
	}
	if st := s.Stats(); st.Open != conns {
		t.Errorf("%d open", st.Open)
	}
	s.dial().want(503) // a new one has no descriptor
	thaw()
	for _, c := range clients {
		c.Close()
	}
	wait(t, "all connections are closed", func() bool { return s.Stats().Open == 0 })
	c := s.dial()
	c.send(get)
	c.want(200)
	s.shutdown()
}
