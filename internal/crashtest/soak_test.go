package crashtest

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/proctest"
)

var soakFor = flag.Duration("soak.for", 4*time.Second, "how long TestSoakStaysFlat loads the server")

// TestSoakStaysFlat loads one server for long: connections that stay and such that come
// and go, all kinds of requests, pipelines, clients that break off, send rubbish
// or don't read, scrapes and viewers of the live page. Its memory, descriptors
// and goroutines must stay flat, every number be given once, and the count be
// what was answered.
func TestSoakStaysFlat(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc to look into")
	}
	s := newSite(t, proctest.Counterd(t), mode{"gnet", "all"})
	s.admin = proctest.FreeAddr(t)
	p := s.serve()
	w := &watch{t: t, p: p, admin: s.admin}
	before := w.look()

	l := &soak{t: t, addr: s.addr, admin: s.admin, numbers: make([]atomic.Uint64, mostNumbers()/64)}
	ctx, cancel := context.WithTimeout(context.Background(), *soakFor)
	defer cancel()
	var load sync.WaitGroup
	load.Go(func() { l.run(ctx) })
	every := *soakFor / 60
	for start := time.Now(); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-time.After(every):
			w.samples = append(w.samples, w.look())
			if every > 10*time.Second {
				t.Logf("%6.0fs %v, %d hits", time.Since(start).Seconds(), w.samples[len(w.samples)-1], l.answered.Load())
			}
		}
	}
	load.Wait()

	w.flat()
	after := w.settled(before)
	t.Logf("before %v; after %v", before, after)
	t.Logf("%v: %d hits and %d reads answered on %d connections, %d rude; %.0f hits/s",
		*soakFor, l.answered.Load(), l.reads.Load(), l.connections.Load(), l.rude.Load(), float64(l.answered.Load())/soakFor.Seconds())

	p.Stop()
	l.exact(s)
}

// mostNumbers is for how many numbers there is a bit: more than any machine counts
// in that time.
func mostNumbers() int { return int(soakFor.Seconds()*1e6) + 1<<20 }

// soak is the load. Every well-behaved request is answered; the rude never
// finish one, so the count must be what was answered, exactly.
type soak struct {
	t           *testing.T
	addr, admin string
	numbers     []atomic.Uint64

	answered, reads, connections, rude atomic.Int64
}

func (l *soak) run(ctx context.Context) {
	var wg sync.WaitGroup
	// Those who come and go do so 50 times a second each: the kernel remembers
	// a closed connection for a minute or two, and has room for a certain number.
	const pause = 20 * time.Millisecond
	many := func(n int, pause time.Duration, f func(r *rand.Rand)) {
		for i := range n {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 7))
				for ctx.Err() == nil {
					f(r)
					time.Sleep(pause)
				}
			})
		}
	}
	many(40, 0, func(r *rand.Rand) { l.connection(ctx, r, 1+r.IntN(20_000)) }) // they stay for a while
	many(16, pause, func(r *rand.Rand) { l.connection(ctx, r, 1) })            // one request each
	many(8, pause, func(r *rand.Rand) { l.connection(ctx, r, 1+r.IntN(10)) })
	many(4, pause, l.offend)
	many(2, 0, func(r *rand.Rand) { l.view(ctx, r) })
	wg.Wait()
}

// connection makes one connection with n exchanges.
func (l *soak) connection(ctx context.Context, r *rand.Rand, n int) {
	nc, err := l.dial(r)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	var out []byte
	for ; n > 0 && ctx.Err() == nil; n-- {
		out = out[:0]
		var hits []bool
		depth := 1
		if r.IntN(4) == 0 {
			depth += r.IntN(32)
		}
		for range depth {
			hit := r.IntN(8) > 0
			if hit {
				out = append(out, shapes[min(len(shapes)-1, r.IntN(24)/3)].on("")...)
			} else {
				out = append(out, readOf("")...)
			}
			hits = append(hits, hit)
		}
		if _, err := nc.Write(out); err != nil {
			l.t.Errorf("sending: %v", err)
			return
		}
		if n == 1 && r.IntN(2) == 0 {
			_ = nc.(*net.TCPConn).CloseWrite() // its answers must come nevertheless
		}
		for _, hit := range hits {
			if err := l.answer(in, hit); err != nil {
				l.t.Errorf("an answer: %v", err)
				return
			}
		}
	}
}

// dial gives every connection a source address out of many, so that ports don't
// run out.
func (l *soak) dial(r *rand.Rand) (net.Conn, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(r.IntN(8)), byte(1+r.IntN(250)))}
	d := net.Dialer{LocalAddr: from, Timeout: patience}
	nc, err := d.Dial("tcp", l.addr)
	if err != nil {
		return nil, err
	}
	l.connections.Add(1)
	return nc, nc.SetDeadline(time.Now().Add(*soakFor + patience))
}

func (l *soak) answer(in *bufio.Reader, hit bool) error {
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(body), "\n"), 10, 64)
	if res.StatusCode != http.StatusOK || err != nil {
		return fmt.Errorf("%s %q", res.Status, body)
	}
	if !hit {
		l.reads.Add(1)
		return nil
	}
	l.answered.Add(1)
	if n == 0 || n/64 >= uint64(len(l.numbers)) {
		return fmt.Errorf("the number %d", n)
	}
	if bit := uint64(1) << (n % 64); l.numbers[n/64].Or(bit)&bit != 0 {
		return fmt.Errorf("%d was given twice", n)
	}
	return nil
}

// offend behaves badly, and never sends a whole request that counts.
func (l *soak) offend(r *rand.Rand) {
	nc, err := l.dial(r)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer nc.Close()
	l.rude.Add(1)
	whole := shapes[r.IntN(len(shapes))].on("")
	switch r.IntN(4) {
	case 0: // breaks off
		_, _ = nc.Write(whole[:r.IntN(len(whole))])
	case 1: // with a reset
		_, _ = nc.Write(whole[:r.IntN(len(whole))])
		_ = nc.(*net.TCPConn).SetLinger(0)
	case 2: // isn't HTTP
		_, _ = nc.Write([]byte("HELO example.org\r\n\r\n"))
		_, _ = io.Copy(io.Discard, nc)
	case 3: // asks much, and leaves without having read it
		_, _ = nc.Write(bytes.Repeat(readOf(""), 2000))
	}
}

// view watches the live page for a moment.
func (l *soak) view(ctx context.Context, r *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.Int64N(soakFor.Nanoseconds()/20+1)))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.admin+"/events", nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			l.t.Error(err)
		}
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		l.t.Errorf("the live page's events: %s", res.Status)
	}
	_, _ = io.Copy(io.Discard, res.Body)
}

// exact compares the count with what was answered: as many, and each once.
func (l *soak) exact(s *site) {
	shown, err := exec.Command(s.binary, "store", "show", s.store()).Output()
	if err != nil {
		l.t.Fatal(err)
	}
	count := number(strings.TrimSpace(string(shown)))
	if count != l.answered.Load() {
		l.t.Fatalf("the count is %d, %d hits were answered", count, l.answered.Load())
	}
	for n := int64(1); n <= count; n++ {
		if l.numbers[n/64].Load()&(1<<(n%64)) == 0 {
			l.t.Fatalf("nobody got %d, and the count is %d", n, count)
		}
	}
}

// watch looks into a process.
type watch struct {
	t       *testing.T
	p       *proctest.Process
	admin   string
	samples []sample
}

type sample struct {
	memory      int64 // resident, in KiB
	descriptors int64 // without those of connections
	goroutines  int64
	conns       int64
}

func (s sample) String() string {
	return fmt.Sprintf("%.1f MiB, %d descriptors and %d connections, %d goroutines",
		float64(s.memory)/1024, s.descriptors, s.conns, s.goroutines)
}

func (w *watch) look() sample {
	w.t.Helper()
	metrics := w.metrics()
	conns := metrics("counterd_connections_open")
	return sample{
		memory:      w.p.Resident() >> 10,
		descriptors: int64(w.p.Descriptors()) - conns,
		goroutines:  metrics("go_goroutines"),
		conns:       conns,
	}
}

func (w *watch) metrics() func(name string) int64 {
	w.t.Helper()
	res, err := http.Get("http://" + w.admin + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return func(name string) int64 {
		m := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text)
		if m == nil {
			w.t.Fatalf("no metric %s", name)
		}
		return number(string(m[1]))
	}
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // digits, by the expressions above
	return n
}

// flat compares the last third of the samples with the one before: by their
// medians, because at any moment connections come and go.
func (w *watch) flat() {
	third := len(w.samples) / 3
	if third < 5 {
		w.t.Fatalf("only %d samples", len(w.samples))
	}
	second, last := w.samples[third:2*third], w.samples[2*third:]
	for _, what := range []struct {
		name string
		of   func(sample) int64
		more int64 // how much is no growth
	}{
		{"KiB of memory", func(s sample) int64 { return s.memory }, 4096},
		{"descriptors", func(s sample) int64 { return s.descriptors }, 20},
		{"goroutines", func(s sample) int64 { return s.goroutines }, 20},
	} {
		a, b := medianOf(second, what.of), medianOf(last, what.of)
		w.t.Logf("%s: median %d in the second third, %d in the last", what.name, a, b)
		if b > a+a/20+what.more {
			w.t.Errorf("%s grew from %d to %d", what.name, a, b)
		}
	}
}

func medianOf(samples []sample, of func(sample) int64) int64 {
	var values []int64
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// settled waits until the server has let go of everything that the load took.
func (w *watch) settled(before sample) sample {
	deadline := time.Now().Add(patience)
	for {
		s := w.look()
		// The scrape itself holds a connection and its goroutines.
		if s.conns == 0 && s.descriptors <= before.descriptors+2 && s.goroutines <= before.goroutines+4 {
			return s
		}
		if time.Now().After(deadline) {
			w.t.Errorf("the server still holds what the load took: %v", s)
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
}
