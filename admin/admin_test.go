package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is what the admin listener looks at.
type fake struct {
	total atomic.Int64
	open  atomic.Int64
	asked atomic.Int64
	older atomic.Int64 // of total: counted before this process

	unavailable atomic.Uint64
	rejected    atomic.Uint64
	refused     atomic.Uint64
	tooMany     atomic.Uint64

	mu      sync.Mutex
	err     error         // of Read
	refuses error         // of Ready
	hang    chan struct{} // not nil: Read waits for it and ignores its context
}

// refuse makes hits fail and leaves reads alone.
func (f *fake) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = err
}

func (f *fake) ready(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refuses
}

func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// jump makes n the total without hits.
func (f *fake) jump(n int64) {
	f.older.Add(n - f.total.Swap(n))
}

func (f *fake) read(context.Context) (int64, error) {
	f.asked.Add(1)
	f.mu.Lock()
	err, hang := f.err, f.hang
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return f.total.Load(), err
}

func (f *fake) options() Options {
	return Options{
		Version: "v1.2.3", Revision: "abc", Engine: "gnet", Store: "file:counterd.db", MaxConns: 1000, Conns: 16,
		Read:  f.read,
		Ready: f.ready,
		Total: f.total.Load,
		Traffic: func() Traffic {
			return Traffic{
				Hits: uint64(f.total.Load() - f.older.Load()), Reads: 2, Unavailable: 3 + f.unavailable.Load(), TooMany: f.tooMany.Load(),
				Accepted: 4, Rejected: 5 + f.rejected.Load(), AcceptErrors: 6,
				Open: f.open.Load(), Refused: map[string]uint64{"malformed_field_name": 7 + f.refused.Load()},
			}
		},
		Commits: NewCommits(),
		Stats:   func() StoreStats { return StoreStats{Retries: 8, Ambiguous: 9} },
	}
}

// start serves o on loopback until the test ends, and returns the base URL.
func start(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	return startOn(t, o, "127.0.0.1:0")
}

func startOn(t *testing.T, o Options, addr string) (*Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, fmt.Sprintf("http://127.0.0.1:%d", ln.Addr().(*net.TCPAddr).Port)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return getHost(t, url, "")
}

func getHost(t *testing.T, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.total.Store(41)
	f.open.Store(12)
	o := f.options()
	o.Commits.Observe(10, 3, 2*time.Millisecond, nil)
	o.Commits.Observe(0, 1, time.Millisecond, nil) // a health check
	o.Commits.Observe(5, 1, time.Second, errors.New("no"))
	_, url := start(t, o)

	code, body := get(t, url+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	for _, line := range []string{
		"counterd_count_current 41", "counterd_hits_total 41", "counterd_reads_total 2", "counterd_unavailable_total 3",
		"counterd_connections_accepted_total 4", "counterd_connections_rejected_total 5", "counterd_accept_errors_total 6",
		`counterd_refused_requests_total{reason="malformed_field_name"} 7`, "counterd_connections_open 12", "counterd_connections_max 1000",
		"counterd_store_retries_total 8", "counterd_store_ambiguous_total 9", "counterd_store_up 1", "counterd_draining 0",
		"counterd_commit_duration_seconds_count 1", "counterd_commit_hits_sum 10", "counterd_commit_hits_count 1",
		"counterd_commit_failures_total 1", `counterd_server_info{engine="gnet",store="file"} 1`, "counterd_live_streams 0",
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	for _, name := range []string{`counterd_build_info{goversion="go1`, "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("no metric %s", name)
		}
	}

	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestMetricNamesHaveOurPrefix keeps every name of ours under the prefix.
func TestMetricNamesHaveOurPrefix(t *testing.T) {
	t.Parallel()
	f := &fake{}
	_, url := start(t, f.options())
	_, body := get(t, url+"/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`^(counterd|go|process|promhttp)_`)
	for name, family := range families {
		if !own.MatchString(name) {
			t.Errorf("%s (%s)", name, family.GetHelp())
		}
		if family.GetType() == dto.MetricType_UNTYPED {
			t.Errorf("%s has no type", name)
		}
	}
}

func TestHealthFollowsTheStore(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s, url := start(t, f.options())

	want := func(path string, code int, text string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s says %d", path, code), func() bool {
			c, body := get(t, url+path)
			return c == code && strings.Contains(body, text)
		})
	}
	want("/healthz", http.StatusOK, "ok")
	want("/readyz", http.StatusOK, "ok")
	f.fail(errors.New("the disk is on fire"))
	want("/readyz", http.StatusServiceUnavailable, "the disk is on fire")
	want("/healthz", http.StatusOK, "ok")
	f.fail(nil)
	want("/readyz", http.StatusOK, "ok")
	s.Drain()
	want("/readyz", http.StatusServiceUnavailable, "draining")
	want("/healthz", http.StatusOK, "ok")
}

// TestReadyMeansHits: a store that can be read and takes no hits isn't ready, and
// counts as down.
func TestReadyMeansHits(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s, url := start(t, f.options())
	f.refuse(errors.New("nothing was synced for 5s"))
	eventually(t, "not ready", func() bool {
		code, body := get(t, url+"/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "nothing was synced")
	})
	if _, body := get(t, url+"/metrics"); !strings.Contains(body, "\ncounterd_store_up 0\n") {
		t.Error("counterd_store_up isn't 0")
	}
	s.live.refreshCount()
	if now, _, _ := s.live.snapshot(); len(now.Alarms) != 1 || !strings.Contains(now.Alarms[0].Clients, "Reads are answered") {
		t.Errorf("alarms %+v", now.Alarms)
	}
	f.refuse(nil)
	eventually(t, "ready", func() bool { code, _ := get(t, url+"/readyz"); return code == http.StatusOK })
}

// TestOutageIsDatedWithoutViewers: who comes later sees since when, and that it
// lasts.
func TestOutageIsDatedWithoutViewers(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s, url := start(t, f.options())
	eventually(t, "the store was asked", func() bool { return f.asked.Load() > 0 })
	f.fail(errors.New("gone"))
	f.unavailable.Add(1) // it is asked at once where hits fail
	begin := time.Now()
	eventually(t, "some seconds of it", func() bool {
		s.live.mu.Lock()
		defer s.live.mu.Unlock()
		n := len(s.live.history)
		return n >= 3 && s.live.history[n-1].Down && s.live.history[n-3].Down
	})
	if took := time.Since(begin); took > calmProbe {
		t.Errorf("noticed after %v", took)
	}
	for range 2 {
		_, body := get(t, url+"/")
		at := regexp.MustCompile(`since (\S+ \S+) UTC`).FindStringSubmatch(body)
		if at == nil {
			t.Fatalf("no date in %s", body)
		}
		since, err := time.Parse(time.DateTime, at[1])
		if off := since.Sub(begin); err != nil || off < -2*time.Second || off > 3*time.Second {
			t.Errorf("since %s, but it began at %v (%v)", at[1], begin, err)
		}
		for _, words := range []string{"<title>store down · counterd</title>", "/icon-bad.svg", "gone", "Hits and reads get 503"} {
			if !strings.Contains(body, words) {
				t.Errorf("the first HTML lacks %q", words)
			}
		}
	}
}

// TestOverdueStoreIsNotWaitedFor: the page of an incident comes at once.
func TestOverdueStoreIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := &fake{hang: make(chan struct{})}
	defer close(f.hang)
	_, url := start(t, f.options())
	get(t, url+"/readyz") // waits for as long as it may take
	begin := time.Now()
	for range 5 {
		if code, _ := get(t, url+"/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("%d", code)
		}
	}
	if _, body := get(t, url+"/"); !strings.Contains(body, errNoAnswer.Error()) {
		t.Errorf("the page says nothing of it: %s", body)
	}
	if took := time.Since(begin); took > probeTimeout {
		t.Errorf("six answers took %v", took)
	}
}

// TestAlarmsSayWhatClientsGet: each says what clients get, keeps its time, and goes away.
func TestAlarmsSayWhatClientsGet(t *testing.T) {
	t.Parallel()
	f := &fake{}
	o := f.options()
	o.Counters = newLister("/a")
	l := New(o).live
	defer l.s.Close()
	second := func() []string {
		l.sample(l.s.reading())
		now, _, _ := l.snapshot()
		var titles []string
		for _, a := range now.Alarms {
			if a.Clients == "" || a.Tab == "" || a.Since == 0 {
				t.Errorf("incomplete: %+v", a)
			}
			titles = append(titles, a.Title)
		}
		return titles
	}
	want := func(titles ...string) {
		t.Helper()
		if got := second(); !slices.Equal(got, titles) {
			t.Errorf("alarms %q, want %q", got, titles)
		}
	}
	want()
	f.unavailable.Add(1)
	f.rejected.Add(1)
	f.tooMany.Add(1)
	want("Some requests got 503", "No room for more connections", "No room for more counters")
	now, _, _ := l.snapshot()
	since := now.Alarms[0].Since
	for range windowSeconds - 2 {
		second()
		if now, _, _ := l.snapshot(); len(now.Alarms) != 3 || now.Alarms[0].Since != since {
			t.Fatalf("alarms %+v, want them since %d", now.Alarms, since)
		}
	}
	eventually(t, "all is well", func() bool { return len(second()) == 0 })
	for range 2 * historySeconds {
		second()
	}
	if n := len(l.history); n != historySeconds {
		t.Errorf("%d seconds of history, want %d", n, historySeconds)
	}
	if n := len(l.window); n != windowSeconds+1 {
		t.Errorf("%d readings, want %d", n, windowSeconds+1)
	}
}

func TestDigitsAreGrouped(t *testing.T) {
	t.Parallel()
	for digits, want := range map[string]string{
		"0": "0", "999": "999", "1000": "1,000", "123456": "123,456", "9223372036854775807": "9,223,372,036,854,775,807",
	} {
		if got := grouped(digits); got != want {
			t.Errorf("%s: %s", digits, got)
		}
	}
}

// TestChecksDontPileUp: with a store that hangs for good, many checks ask it
// once, and each is answered in time.
func TestChecksDontPileUp(t *testing.T) {
	t.Parallel()
	f := &fake{hang: make(chan struct{})}
	_, url := start(t, f.options())

	begin := time.Now()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begin); took > probeTimeout+5*time.Second {
		t.Errorf("checks took %v", took)
	}
	if code, _ := get(t, url+"/metrics"); code != http.StatusOK {
		t.Errorf("metrics: %d", code)
	}
	if n := f.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times while it hung, want 1", n)
	}
	close(f.hang)
	eventually(t, "ready again", func() bool {
		code, _ := get(t, url+"/readyz")
		return code == http.StatusOK
	})
}

func TestForeignHostIsRefused(t *testing.T) {
	t.Parallel()
	_, url := start(t, (&fake{}).options())
	port := url[strings.LastIndex(url, ":"):]
	for host, want := range map[string]int{
		"127.0.0.1" + port:         200,
		"localhost" + port:         200,
		"LOCALHOST:1":              200, // forwarded
		"[::1]" + port:             200,
		"127.8.9.1":                200,
		"evil.example":             403,
		"evil.example" + port:      403,
		"localhost.evil.example":   403,
		"127.0.0.1.evil.example":   403,
		"10.0.0.1":                 403,
		"[::ffff:10.0.0.1]" + port: 403,
	} {
		if code, _ := getHost(t, url+"/healthz", host); code != want {
			t.Errorf("Host %q: %d, want %d", host, code, want)
		}
	}
}

// A page of another site can't read the answers; it must not have profiles made either.
func TestForeignPageIsRefused(t *testing.T) {
	t.Parallel()
	_, url := start(t, (&fake{}).options())
	for _, c := range []struct {
		site, mode, dest string
		want             int
	}{
		{"", "", "", 200}, // no browser, or an old one
		{"none", "navigate", "document", 200},
		{"same-origin", "cors", "empty", 200},
		{"cross-site", "navigate", "document", 200}, // a link
		{"cross-site", "navigate", "iframe", 403},
		{"cross-site", "no-cors", "empty", 403},
		{"same-site", "no-cors", "image", 403},
	} {
		req, err := http.NewRequest(http.MethodGet, url+"/debug/pprof/heap", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Sec-Fetch-Mode": c.mode, "Sec-Fetch-Dest": c.dest} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%+v: %d", c, resp.StatusCode)
		}
	}
}

func TestOpenToOthersWarns(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := (&fake{}).options()
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	_, url := startOn(t, o, "0.0.0.0:0")
	if code, _ := getHost(t, url+"/healthz", "counter.example"); code != 200 {
		t.Errorf("a name that isn't loopback: %d, want 200", code)
	}
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("no warning: %q", log.String())
	}
}

func TestProfilesHideTheCommandLine(t *testing.T) {
	t.Parallel()
	_, url := start(t, (&fake{}).options())
	if code, _ := get(t, url+"/debug/pprof/heap"); code != 200 {
		t.Errorf("heap: %d", code)
	}
	if code, body := get(t, url+"/debug/pprof/cmdline"); code != 404 {
		t.Errorf("cmdline: %d %s", code, body)
	}
}

func TestFirstHTMLHasTheCount(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.total.Store(9223372036854775807)
	_, url := start(t, f.options())
	code, body := get(t, url+"/")
	m := regexp.MustCompile(`id="count"[^>]*>(\d+)<`).FindStringSubmatch(body)
	if code != 200 || m == nil || m[1] != "9223372036854775807" {
		t.Errorf("%d %s", code, body)
	}
	if strings.Contains(body, "://") {
		t.Errorf("the page asks another host: %s", body)
	}
}

// stream reads server-sent events.
type stream struct {
	*bufio.Scanner
	body io.Closer
}

func openStream(t *testing.T, url string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	return &stream{Scanner: bufio.NewScanner(resp.Body), body: resp.Body}
}

// next returns the next event's name and data; "" at the end of the stream.
func (s *stream) next() (name, data string) {
	for s.Scan() {
		line := s.Text()
		switch {
		case line == "":
			return name, data
		case strings.HasPrefix(line, "event: "):
			name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			data = line[len("data: "):]
		}
	}
	return "", ""
}

// await reads states until ok holds for one.
func (s *stream) await(t *testing.T, what string, ok func(state) bool) {
	t.Helper()
	for range 200 {
		name, data := s.next()
		if name == "" {
			break
		}
		var now state
		if name != "state" {
			continue
		}
		if err := json.Unmarshal([]byte(data), &now); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if ok(now) {
			return
		}
	}
	t.Fatalf("the stream never showed %s", what)
}

func TestStreamFollows(t *testing.T) {
	t.Parallel()
	f := &fake{}
	o := f.options()
	s, url := start(t, o)
	events := openStream(t, url)
	if name, data := events.next(); name != "hello" || !strings.Contains(data, `"engine":"gnet"`) {
		t.Fatalf("begins with %s %s", name, data)
	}
	f.total.Store(1000)
	events.await(t, "the count", func(s state) bool { return s.Count == "1000" })
	events.await(t, "no hits per second", func(s state) bool { return s.Last.Hits == 0 })
	f.total.Add(500)
	o.Commits.Observe(250, 1, time.Millisecond, nil)
	o.Commits.Observe(250, 1, time.Millisecond, nil)
	events.await(t, "hits per second", func(s state) bool { return s.Last.Hits > 0 })
	events.await(t, "commits", func(s state) bool {
		return s.Batch != nil && *s.Batch == 250 && s.P50 != nil && *s.P50 > 0.0005 && *s.P50 < 0.002 && s.P99 != nil
	})
	f.fail(errors.New("gone"))
	events.await(t, "the store down", func(s state) bool { return !s.StoreUp && len(s.Alarms) > 0 && s.Alarms[0].Words == "gone" })
	f.fail(nil)
	events.await(t, "the store up", func(s state) bool { return s.StoreUp })
	s.Drain()
	events.await(t, "draining", func(s state) bool { return s.Draining })
	s.Close()
	for {
		if name, _ := events.next(); name == "" {
			break
		}
	}
}

func TestStreamsAreCapped(t *testing.T) {
	t.Parallel()
	o := (&fake{}).options()
	o.Conns = 6 // three streams
	s, url := start(t, o)
	var open []*stream
	for range 3 {
		open = append(open, openStream(t, url))
	}
	if code, _ := get(t, url+"/events"); code != http.StatusServiceUnavailable {
		t.Errorf("a fourth stream: %d, want 503", code)
	}
	// Health is not starved by viewers.
	if code, _ := get(t, url+"/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	open[0].body.Close()
	eventually(t, "a place is free again", func() bool { return s.live.streams.Load() == 2 })
}

// TestSlowViewerIsCut: a viewer that never reads holds a stream no longer than
// the buffers last and one write may take.
func TestSlowViewerIsCut(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s, url := start(t, f.options())
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	eventually(t, "the stream is open", func() bool { return s.live.streams.Load() == 1 })

	// Updates as fast as they can be made, instead of waiting for minutes.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.total.Add(1)
				s.live.refreshCount()
				time.Sleep(50 * time.Microsecond) // let the stream take each one
			}
		}
	})
	eventually(t, "the slow viewer is cut", func() bool { return s.live.streams.Load() == 0 })
	close(stop)
	wg.Wait()
}

func TestCloseIsQuick(t *testing.T) {
	t.Parallel()
	s, url := start(t, (&fake{}).options())
	openStream(t, url)
	idle, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	begin := time.Now()
	s.Close()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestQuantileOfAHistogram(t *testing.T) {
	t.Parallel()
	c := NewCommits()
	old := c.sums()
	for i := range 1000 {
		c.Observe(1, 1, time.Duration(i+1)*100*time.Microsecond, nil) // 0.1 … 100 ms, evenly
	}
	now := c.sums()
	for q, want := range map[float64]float64{0.5: 0.050, 0.99: 0.099} {
		if got := *quantile(old, now, q); got < want*0.67 || got > want*1.34 {
			t.Errorf("quantile %v = %v, want about %v", q, got, want)
		}
	}
	c.Observe(1, 1, time.Hour, nil)
	if got := *quantile(now, c.sums(), 0.5); got != slices.Max(now.upper) {
		t.Errorf("beyond the last bound: %v", got)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
