package engine

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/race"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

const (
	wrkRequest = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"

	browserRequest = "GET /page?x=1 HTTP/1.1\r\nHost: counter.example.com\r\nConnection: keep-alive\r\n" +
		"Cache-Control: max-age=0\r\nUpgrade-Insecure-Requests: 1\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
		"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
)

// descriptor is a gnet.Conn of which the loop needs no more than this.
type descriptor struct {
	gnet.Conn
	fd int
}

func (d descriptor) Fd() int { return d.fd }

// newTestLoop makes a loop that no event loop drives, and a connection on it.
// What the loop writes arrives at the descriptor returned. There are at most most
// counters, or, with 0, one for all paths.
func newTestLoop(t testing.TB, most int64) (l *loop, c *conn, peer int) {
	t.Helper()
	over := counter.NewInstant(counter.NewMem(), counter.Options{})
	if most > 0 {
		over = counter.NewInstant(counter.NewMemTable(most), counter.Options{})
	}
	s, err := New(Config{
		Engine: Gnet, PerPath: most > 0, Loops: 1, MaxConns: 1, MaxHeaderBytes: 16 << 10, MaxBodyBytes: 1 << 20,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		Log: slog.New(slog.DiscardHandler),
	}, over)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Shutdown(t.Context())
		s.Close(t.Context())
		s.counter.Close(t.Context())
	})
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	l = newLoop(s.model.(*reactor), 0)
	c = &conn{gc: descriptor{fd: fds[0]}, loop: l}
	l.open(c)
	return l, c, fds[1]
}

// TestNoAllocations drives a loop as gnet does, from bytes read to bytes
// written: parsing, counting, rendering, writing, and the lists of deadlines. The
// first time a path is counted on is another matter.
func TestNoAllocations(t *testing.T) {
	race.Spare(t)
	paths := ""
	for i := range 16 {
		paths += fmt.Sprintf("GET /page/%d HTTP/1.1\r\nHost: a\r\n\r\n", i%5)
	}
	requests := map[string]string{
		"wrk":           wrkRequest,
		"browser":       browserRequest,
		"pipelined":     strings.Repeat(wrkRequest, 16),
		"several paths": paths,
		"read":          "GET /count HTTP/1.1\r\nHost: a\r\n\r\n",
		"read of one":   "GET /count/page/1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"head":          "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
		"refused":       "POST /count HTTP/1.1\r\nHost: a\r\n\r\n",
		"body":          "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"chunked":       "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.0":      "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	}
	for _, most := range []int64{0, 1000} {
		l, c, peer := newTestLoop(t, most)
		for name, request := range requests {
			if n := allocations(t, l, c, peer, request, "HTTP/1.1 "); n != 0 {
				t.Errorf("%d counters, %s: %v allocations a request", most, name, n)
			}
		}
	}
}

// TestRefusedPathsAllocateNothing: nor does a path for which there is no room.
func TestRefusedPathsAllocateNothing(t *testing.T) {
	race.Spare(t)
	l, c, peer := newTestLoop(t, 1)
	allocations(t, l, c, peer, wrkRequest, "HTTP/1.1 200 ")
	if n := allocations(t, l, c, peer, "GET /another HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 507 "); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// allocations is how many a request makes that was made once before.
func allocations(t *testing.T, l *loop, c *conn, peer int, request, answer string) float64 {
	data, buf := []byte(request), make([]byte, 64<<10)
	return testing.AllocsPerRun(1000, func() {
		l.read(c, data)
		n, err := unix.Read(peer, buf)
		if err != nil || !strings.HasPrefix(string(buf[:min(n, len(answer))]), answer) {
			t.Fatalf("%q: %q, %v", request, buf[:max(n, 0)], err)
		}
	})
}

func BenchmarkLoop(b *testing.B) {
	for _, bc := range []struct {
		name, request string
		requests      int
	}{
		{"wrk", wrkRequest, 1},
		{"browser", browserRequest, 1},
		{"pipelined", strings.Repeat(wrkRequest, 16), 16},
	} {
		b.Run(bc.name, func(b *testing.B) {
			l, c, peer := newTestLoop(b, 0)
			data, buf := []byte(bc.request), make([]byte, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				l.read(c, data)
				unix.Read(peer, buf)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*bc.requests), "ns/request")
		})
	}
}

// BenchmarkSession is BenchmarkLoop without the system calls.
func BenchmarkSession(b *testing.B) {
	for name, request := range map[string]string{"wrk": wrkRequest, "browser": browserRequest} {
		b.Run(name, func(b *testing.B) {
			l, c, _ := newTestLoop(b, 0)
			data := []byte(request)
			var batch counter.Batch
			var answers []answer
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				batch.Reset()
				_, answers = c.gather(l.codec, data, answers[:0], burst, &batch)
				l.r.s.counter.Submit(&batch)
				out = l.r.s.render(out[:0], answers, &batch, l.tally)
			}
		})
	}
}
