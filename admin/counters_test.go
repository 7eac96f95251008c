package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/counterd/counterd/counter"
)

// lister is a counter.Lister in memory.
type lister struct {
	mu     sync.Mutex
	counts map[string]int64
	most   int64

	asked  atomic.Int64
	asking atomic.Int64
	peak   atomic.Int64 // of asking

	hang chan struct{} // not nil: List and Each wait for it
	err  error
	tear int // not 0: Each fails after so many
}

func newLister(names ...string) *lister {
	l := &lister{counts: make(map[string]int64), most: 1_000_000}
	for i, name := range names {
		l.counts[name] = int64(i + 1)
	}
	return l
}

func (l *lister) add(name string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[name] += n
}

func (l *lister) enter() (leave func()) {
	l.asked.Add(1)
	n := l.asking.Add(1)
	for old := l.peak.Load(); n > old && !l.peak.CompareAndSwap(old, n); old = l.peak.Load() {
	}
	if l.hang != nil {
		<-l.hang
	}
	return func() { l.asking.Add(-1) }
}

func (l *lister) all() []counter.Named {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []counter.Named
	for name, n := range l.counts {
		all = append(all, counter.Named{Name: name, Count: n})
	}
	slices.SortFunc(all, func(a, b counter.Named) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (l *lister) List(_ context.Context, q counter.Query) ([]counter.Named, error) {
	defer l.enter()()
	if l.err != nil {
		return nil, l.err
	}
	list := slices.DeleteFunc(l.all(), func(c counter.Named) bool {
		return !strings.HasPrefix(c.Name, q.Prefix) || c.Name <= q.After && q.After != ""
	})
	if q.ByCount {
		slices.SortStableFunc(list, func(a, b counter.Named) int { return cmp.Compare(b.Count, a.Count) })
	}
	return list[:min(len(list), q.Limit)], nil
}

func (l *lister) Each(_ context.Context, f func(counter.Named) error) error {
	defer l.enter()()
	for i, c := range l.all() {
		if l.err != nil && i == l.tear {
			return l.err
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) Names() (n, most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.counts)), l.most
}

func many(l *lister) Options {
	f := &fake{}
	f.tooMany.Store(11)
	o := f.options()
	o.Counters = l
	return o
}

// page is one answer of /counters.
func page(t *testing.T, address string) (p listing) {
	t.Helper()
	code, body := get(t, address)
	if code != http.StatusOK {
		t.Fatalf("%s: %d %s", address, code, body)
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%s: %v in %s", address, err, body)
	}
	return p
}

func decoded(t *testing.T, n named) string {
	t.Helper()
	if !n.Encoded {
		return n.Name
	}
	name, err := url.PathUnescape(n.Name)
	if err != nil {
		t.Fatalf("%q: %v", n.Name, err)
	}
	return name
}

// TestPagesShowEachCounterOnce: following next shows each counter once, in order of bytes, whatever
// its name holds.
func TestPagesShowEachCounterOnce(t *testing.T) {
	t.Parallel()
	l := newLister(hostile...)
	for i := range 2500 {
		l.add(fmt.Sprintf("/page/%d", i), 1)
	}
	l.add("/\x00", 1)
	l.add(strings.Repeat("\xff", counter.MaxName), math.MaxInt64)
	_, base := start(t, many(l))
	for _, limit := range []int{1000, 501, 100, 7} {
		var got []counter.Named
		address := fmt.Sprintf("%s/counters?order=name&limit=%d", base, limit)
		for next := address; next != ""; {
			p := page(t, next)
			if len(p.Counters) > limit {
				t.Fatalf("%d counters on a page of %d", len(p.Counters), limit)
			}
			for _, n := range p.Counters {
				got = append(got, counter.Named{Name: decoded(t, n), Count: n.Count})
			}
			next = ""
			if p.Next != nil {
				next = address + "&after=" + url.QueryEscape(*p.Next)
			}
		}
		if want := l.all(); !slices.Equal(got, want) {
			t.Fatalf("limit %d: %d counters, want %d, or in another order", limit, len(got), len(want))
		}
	}
	if p := page(t, base+"/counters?limit=1000&prefix=/page/24"); len(p.Counters) != 111 || p.Next != nil {
		t.Errorf("with a prefix: %d counters, next %v", len(p.Counters), p.Next)
	}
	if p := page(t, base+"/counters?prefix=%2F%FF"); len(p.Counters) != 1 || p.Counters[0] != (named{"/%FF%FE%2541", 7, true}) {
		t.Errorf("with a prefix that isn't UTF-8: %v", p.Counters)
	}
	p := page(t, base+"/counters?order=count&limit=3")
	if len(p.Counters) != 3 || p.Counters[0].Count != math.MaxInt64 || p.Counters[1].Count != 10 || p.Counters[2].Count != 9 || p.Next != nil {
		t.Errorf("by count: %v, next %v", p.Counters, p.Next)
	}
}

func TestListAnswer(t *testing.T) {
	t.Parallel()
	l := newLister("/a", "/b")
	o := many(l)
	o.Total = func() int64 { return 3 }
	_, base := start(t, o)
	if code, body := get(t, base+"/counters?limit=1"); code != 200 || body != `{"total":3,"counters":[{"name":"/a","count":1}],"next":"L2E"}`+"\n" {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get(t, base+"/counters?prefix=/c"); code != 200 || body != `{"total":3,"counters":[],"next":null}`+"\n" {
		t.Errorf("%d %s", code, body)
	}
	l.err = errors.New("the disk is on fire")
	if code, body := get(t, base+"/counters"); code != http.StatusServiceUnavailable || !strings.Contains(body, "on fire") {
		t.Errorf("%d %s", code, body)
	}
}

func TestBadParametersAreRefused(t *testing.T) {
	t.Parallel()
	l := newLister("/a")
	_, base := start(t, many(l))
	for _, query := range []string{
		"limit=0", "limit=-1", "limit=1001", "limit=ten", "limit=", "limit=99999999999999999999", "limit=1&limit=2",
		"order=", "order=size", "order=count&after=L2E", "after=%21", "after=a", "after=" + strings.Repeat("AAAA", 400),
		"prefix=%zz", "prefix=a;b", "perfix=/", "%0aX=1", "prefix=%2F&prefix=%2F", "x=" + strings.Repeat("y", 4000),
		"<script>=1", "%ff=%ff",
	} {
		code, body := get(t, base+"/counters?"+query)
		if code != http.StatusBadRequest || strings.Count(body, "\n") != 1 || len(body) > 500 || !utf8.ValidString(body) {
			t.Errorf("%.50s: %d %q", query, code, body)
		}
	}
	if code, _ := get(t, base+"/counters.csv?limit=1"); code != http.StatusBadRequest {
		t.Errorf("csv with a parameter: %d", code)
	}
	if n := l.asked.Load(); n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
}

func TestOneCounterHasNoList(t *testing.T) {
	t.Parallel()
	_, base := start(t, (&fake{}).options())
	for _, path := range []string{"/counters", "/counters.csv"} {
		if code, body := get(t, base+path); code != http.StatusNotFound || !strings.Contains(body, "--per=path") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if _, body := get(t, base+"/metrics"); strings.Contains(body, "counterd_counters") {
		t.Error("metrics of many counters")
	}
}

func TestCountersInMetrics(t *testing.T) {
	t.Parallel()
	_, base := start(t, many(newLister(hostile...)))
	_, body := get(t, base+"/metrics")
	for _, line := range []string{"counterd_counters 10", "counterd_counters_max 1e+06", "counterd_counters_refused_total 11"} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if strings.Contains(body, "onerror") {
		t.Error("a name is in the metrics")
	}
}

// cells reads rows as a spreadsheet does that expects comma between cells.
func cells(t rapid.TB, text string, comma rune) [][]string {
	t.Helper()
	r := csv.NewReader(strings.NewReader(text))
	r.Comma = comma
	r.FieldsPerRecord = -1
	r.LazyQuotes = comma != ',' // the rest of a line isn't meant for it
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return rows
}

// TestRowIsSafeAndWhole: whatever a name holds, no cell begins as a formula does,
// whichever separator a spreadsheet expects, and the name can be had back.
func TestRowIsSafeAndWhole(t *testing.T) {
	t.Parallel()
	octets := rapid.SliceOfN(rapid.OneOf(
		rapid.SampledFrom([]byte("=+-@'\"\t\r\n ,;|%/\xff\x00")), rapid.Byte()), 1, 40)
	rapid.Check(t, func(t *rapid.T) {
		name := string(octets.Draw(t, "name"))
		if rapid.Bool().Draw(t, "full width") {
			name = "＝" + name
		}
		count := rapid.Int64Range(0, math.MaxInt64).Draw(t, "count")
		line := string(appendRow(nil, counter.Named{Name: name, Count: count}))
		for _, comma := range []rune{',', ';', '\t'} {
			for _, row := range cells(t, line, comma) {
				for _, cell := range row {
					if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r\n") || strings.HasPrefix(cell, "＝") {
						t.Fatalf("%q has a cell %q", line, cell)
					}
				}
			}
		}
		rows := cells(t, line, ',')
		if len(rows) != 1 || len(rows[0]) != 3 || rows[0][1] != fmt.Sprint(count) {
			t.Fatalf("%q: %q", line, rows)
		}
		cell := strings.TrimPrefix(rows[0][0], "'")
		if rows[0][2] == "true" {
			var err error
			if cell, err = url.PathUnescape(cell); err != nil {
				t.Fatal(err)
			}
		}
		// Readers of CSV make a line feed of CR LF.
		if want := strings.ReplaceAll(name, "\r\n", "\n"); strings.ReplaceAll(cell, "\r\n", "\n") != want {
			t.Fatalf("%q came back as %q", name, cell)
		}
	})
}

func TestExportHasAllCounters(t *testing.T) {
	t.Parallel()
	l := newLister(hostile...)
	for range 5000 {
		l.add(fmt.Sprintf("/%x", rand.Uint64()), rand.Int64())
	}
	_, base := start(t, many(l))
	resp, err := http.Get(base + "/counters.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	rows := cells(t, string(body), ',')
	if len(rows) != 1+5000+len(hostile) || !slices.Equal(rows[0], []string{"name", "count", "encoded"}) {
		t.Errorf("%d rows, the first %q", len(rows), rows[0])
	}
	if h := resp.Header; h.Get("Content-Disposition") != `attachment; filename="counters.csv"` ||
		!strings.HasPrefix(h.Get("Content-Type"), "text/csv; charset=utf-8") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v", h)
	}
}

// TestTornExportDoesNotEndWell: what isn't all of them doesn't end as if it were.
func TestTornExportDoesNotEndWell(t *testing.T) {
	t.Parallel()
	for _, after := range []int{0, 3, 4000} {
		l := newLister()
		for i := range 5000 {
			l.add(fmt.Sprintf("/%d/%s", i, strings.Repeat("x", 50)), 1)
		}
		l.err, l.tear = errors.New("the database is gone"), after
		_, base := start(t, many(l))
		resp, err := http.Get(base + "/counters.csv")
		if err != nil {
			if after != 3 { // nothing has left the buffer
				t.Errorf("after %d: %v", after, err)
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case after == 0 && (resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "database is gone")):
			t.Errorf("%s %s", resp.Status, body)
		case after > 0 && err == nil:
			t.Errorf("after %d: %s, %d bytes, and no error", after, resp.Status, len(body))
		}
	}
}

// TestListsAreBounded: beyond a few at a time there is 503, and health goes on.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	for path, most := range map[string]int64{"/counters": maxLists, "/counters.csv": maxExports} {
		l := newLister("/a")
		l.hang = make(chan struct{})
		_, base := start(t, many(l))
		var wg sync.WaitGroup
		for range most {
			wg.Go(func() {
				if code, body := get(t, base+path); code != http.StatusOK {
					t.Errorf("%s: %d %s", path, code, body)
				}
			})
		}
		eventually(t, "lists are on their way", func() bool { return l.asking.Load() == most })
		for range 5 {
			resp, err := http.Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
			}
		}
		if code, _ := get(t, base+"/readyz"); code != http.StatusOK {
			t.Errorf("readyz: %d", code)
		}
		close(l.hang)
		wg.Wait()
		if peak := l.peak.Load(); peak != most {
			t.Errorf("%s: %d at a time, want %d", path, peak, most)
		}
		if code, _ := get(t, base+path); code != http.StatusOK {
			t.Errorf("%s afterwards: %d", path, code)
		}
	}
}

// TestStalledExportIsCut: whoever doesn't read holds the export no longer than
// one write may take.
func TestStalledExportIsCut(t *testing.T) {
	t.Parallel()
	l := newLister()
	for i := range 100_000 {
		l.add(fmt.Sprintf("/%d/%s", i, strings.Repeat("x", 100)), 1)
	}
	s, base := start(t, many(l))
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /counters.csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
	eventually(t, "the export has begun", func() bool { return len(s.exports) == 1 })
	eventually(t, "it is cut", func() bool { return len(s.exports) == 0 })
	rest, err := io.ReadAll(c)
	if bytes.HasSuffix(rest, []byte("0\r\n\r\n")) {
		t.Errorf("%d bytes and a proper end (%v)", len(rest), err)
	}
}

// TestPageListsOnceForAll: however many look, and however long a list takes, the
// page asks for one at a time, and for none while nobody looks.
func TestPageListsOnceForAll(t *testing.T) {
	t.Parallel()
	l := newLister(hostile...)
	l.hang = make(chan struct{})
	s, base := start(t, many(l))
	eventually(t, "some seconds pass", func() bool { now, _, _ := s.live.snapshot(); return now.Second >= 2 })
	if n := l.asked.Load(); n != 0 {
		t.Errorf("asked %d times while nobody looked", n)
	}
	streams := make([]*stream, 5)
	for i := range streams {
		streams[i] = openStream(t, base)
	}
	eventually(t, "the list is on its way", func() bool { return l.asking.Load() == 1 })
	streams[0].await(t, "some seconds", func(now state) bool { return now.Second >= 5 })
	if n := l.asked.Load(); n != 1 {
		t.Errorf("asked %d times while the first list took long", n)
	}
	close(l.hang)
	for name, data := "", ""; name != "top"; {
		if name, data = streams[1].next(); name == "top" {
			var top top
			if err := json.Unmarshal([]byte(data), &top); err != nil || len(top.Counters) != topCounters || top.Names != 10 {
				t.Errorf("%s: %v", data, err)
			}
		}
		if name == "" {
			t.Fatal("the stream ended without a list")
		}
	}
	// The list took seconds, so the next is far away.
	s.live.mu.Lock()
	wait := time.Until(s.live.listAgain)
	s.live.mu.Unlock()
	if wait < 10*time.Second {
		t.Errorf("again after %v", wait)
	}
}

// TestListThatHangsDoesntHoldUpClose is about a store that ignores its context.
func TestListThatHangsDoesntHoldUpClose(t *testing.T) {
	t.Parallel()
	l := newLister("/a")
	l.hang = make(chan struct{})
	s, base := start(t, many(l))
	openStream(t, base)
	eventually(t, "the list is on its way", func() bool { return l.asking.Load() == 1 })
	begin := time.Now()
	s.Close()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Close took %v", took)
	}
	close(l.hang)
}
