package admin

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// historySeconds is what the charts show.
	historySeconds = 300

	// countEvery is how often a changed count is sent to viewers.
	countEvery = 200 * time.Millisecond

	// calmProbe is how often the store is asked while nobody looks and nothing
	// fails, so that the page knows when an outage began.
	calmProbe = 10 * time.Second

	// streamWrite is how long a reader may take to receive a part of an answer.
	streamWrite = 5 * time.Second

	// streamLife ends a stream now and then; the page comes back by itself. So
	// nothing is held for ever for a viewer that is gone without a word.
	streamLife = time.Hour
)

//go:embed assets
var assets embed.FS

var pageTemplate = template.Must(template.ParseFS(assets, "assets/page.html"))

// pageVersion changes with the page, so that one that is open loads itself again
// when it meets a server that has another.
var pageVersion = func() string {
	sum := sha256.New()
	err := fs.WalkDir(assets, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := assets.ReadFile(path)
		sum.Write(data)
		return err
	})
	if err != nil {
		panic(err) // they are in the binary
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}()

// asset serves an embedded file.
func asset(name, contentType string) http.HandlerFunc {
	data, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it isn't in the binary
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Write(data)
	}
}

// icon serves an embedded icon. A browser keeps it, to show it while there is no
// connection.
func icon(name string) http.HandlerFunc {
	serve := asset(name, "image/svg+xml")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		serve(w, r)
	}
}

// live samples the server once a second for the page and its streams.
type live struct {
	s       *Server
	started time.Time
	limit   int64
	streams atomic.Int64
	done    chan struct{}

	mu      sync.Mutex
	window  window
	began   map[string]int64 // the alarms of now, by title: since when, Unix time
	history []sample         // the oldest first
	now     state
	changed chan struct{} // closed at the next update, then replaced

	listing   bool      // the top counters are being asked for
	listAgain time.Time // not before
	top       *top      // nil: not known yet; replaced, never changed
}

// sample is one second of the charts. Rates are per second.
type sample struct {
	Hits        float64  `json:"hits"`
	Unavailable float64  `json:"unavailable"`
	Refused     float64  `json:"refused"`
	P50         *float64 `json:"p50"` // of commits, in seconds; null: there were none
	P99         *float64 `json:"p99"`
	Down        bool     `json:"down,omitempty"` // hits got 503 from the store
}

// state is what the page shows. Count is text: a browser's numbers are exact only
// up to 2^53.
type state struct {
	Count    string   `json:"count"`
	StoreUp  bool     `json:"up"`
	Draining bool     `json:"draining"`
	Alarms   []alarm  `json:"alarms"` // the worst first
	Open     int64    `json:"open"`
	MaxConns int      `json:"maxConns"`
	P50      *float64 `json:"p50"` // of commits over the window, in seconds
	P99      *float64 `json:"p99"`
	Batch    *float64 `json:"batch"`  // hits per commit
	Uptime   int64    `json:"uptime"` // in seconds
	Time     int64    `json:"time"`   // Unix time of the last sample
	Second   int64    `json:"second"` // its number since the start
	Last     sample   `json:"last"`
}

// Grouped is the count for people.
func (s state) Grouped() string { return grouped(s.Count) }

// Title and Icon are the tab's.
func (s state) Title() string {
	if len(s.Alarms) == 0 {
		return "counterd"
	}
	return s.Alarms[0].Tab + " · counterd"
}

func (s state) Icon() string {
	if len(s.Alarms) == 0 {
		return "/icon.svg"
	}
	return "/icon-" + s.Alarms[0].Level + ".svg"
}

// grouped puts a comma between thousands.
func grouped(digits string) string {
	var out []byte
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out = append(out, ',')
		}
		out = append(out, digits[i])
	}
	return string(out)
}

// hello begins each stream, and follows whenever a viewer has missed a second.
type hello struct {
	Page    string   `json:"page"` // version of the page
	Engine  string   `json:"engine"`
	Store   string   `json:"store"`
	Version string   `json:"version"`
	Many    bool     `json:"many"`   // counters
	Time    int64    `json:"time"`   // Unix time of the last sample
	Second  int64    `json:"second"` // its number
	History []sample `json:"history"`
}

func newLive(s *Server, limit int) *live {
	l := &live{
		s: s, started: time.Now(), limit: int64(limit),
		done: make(chan struct{}), changed: make(chan struct{}),
		window: window{s.reading()}, began: make(map[string]int64),
	}
	l.now = state{
		Count: strconv.FormatInt(s.opts.Total(), 10), StoreUp: true, Alarms: []alarm{},
		MaxConns: s.opts.MaxConns, Time: l.started.Unix(),
	}
	return l
}

// run samples until ctx ends. Without viewers it wakes once a second.
func (l *live) run(ctx context.Context) {
	defer close(l.done)
	next := time.Now().Add(time.Second)
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if now := time.Now(); !now.Before(next) {
			l.sample(l.s.reading())
			// After a pause of the whole machine seconds are left out, not made up.
			for !next.After(now) {
				next = next.Add(time.Second)
			}
		} else {
			l.refreshCount()
		}
		wait := time.Until(next)
		if l.streams.Load() > 0 {
			l.startTop(ctx)
			wait = min(wait, countEvery)
		}
		if l.mustAsk() {
			l.s.probe.start()
		}
		timer.Reset(wait)
	}
}

// mustAsk reports whether it is time to ask the store: always while somebody
// looks or something is wrong.
func (l *live) mustAsk() bool {
	a := l.s.probe.latest()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams.Load() > 0 || a.err != nil || l.window.unavailable() || time.Since(a.at) >= calmProbe
}

// sample takes r as the state of this second.
func (l *live) sample(r reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.window.last()
	took := r.at.Sub(before.at).Seconds()
	rate := func(old, now uint64) float64 { return math.Round(float64(now-old)/took*10) / 10 }
	last := sample{
		Hits:        rate(before.hits, r.hits),
		Unavailable: rate(before.unavailable, r.unavailable),
		Refused:     rate(before.refused, r.refused),
		P50:         quantile(before.commits, r.commits, 0.50),
		P99:         quantile(before.commits, r.commits, 0.99),
		Down:        l.s.probe.latest().err != nil,
	}
	l.window = l.window.add(r)
	l.history = append(l.history, last)
	if len(l.history) > historySeconds {
		l.history = append(l.history[:0], l.history[len(l.history)-historySeconds:]...)
	}

	old := l.window.first().commits
	l.now.P50, l.now.P99, l.now.Batch = quantile(old, r.commits, 0.50), quantile(old, r.commits, 0.99), l.window.batch()
	l.now.Open = r.open
	l.now.Uptime = int64(time.Since(l.started).Seconds())
	l.now.Time = r.at.Unix()
	l.now.Second++
	l.now.Last = last
	l.update()
	l.publish()
}

// refreshCount publishes the count, or what is wrong, if it has changed.
func (l *live) refreshCount() {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.now
	l.update()
	if l.now.Count != before.Count || !slices.Equal(l.now.Alarms, before.Alarms) {
		l.publish()
	}
}

// update brings now up to date as far as that costs nothing.
func (l *live) update() {
	a := l.s.probe.latest()
	l.now.Count = strconv.FormatInt(max(a.total, l.s.opts.Total()), 10)
	l.now.StoreUp = a.err == nil
	l.now.Draining = l.s.draining.Load()
	l.now.Alarms = l.alarms(a)
}

func (l *live) publish() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// snapshot returns the state, the top counters, and what is closed when they
// change.
func (l *live) snapshot() (state, *top, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.top, l.changed
}

func (l *live) hello() hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.s.opts
	return hello{
		Page: pageVersion, Engine: o.Engine, Store: o.Store, Version: o.Version, Many: o.Counters != nil,
		Time: l.now.Time, Second: l.now.Second, History: append([]sample{}, l.history...),
	}
}

// page is the first HTML, with the count as it is now.
func (l *live) page(w http.ResponseWriter, r *http.Request) {
	// The answer, or its absence, is in the state below.
	_, _ = l.s.probe.ask(r.Context())
	l.refreshCount()
	now, _, _ := l.snapshot()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pageTemplate.Execute(w, struct { // an error means the viewer has left
		Server hello
		Now    state
	}{l.hello(), now})
}

// events is the stream of updates. A viewer that falls behind misses updates,
// and one that stops reading is cut.
func (l *live) events(w http.ResponseWriter, r *http.Request) {
	if l.streams.Add(1) > l.limit {
		l.streams.Add(-1)
		busy(w, "too many viewers", 10*time.Second)
		return
	}
	defer l.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	out := newPatient(w)
	end := time.NewTimer(streamLife)
	defer end.Stop()

	second := int64(-2)
	var shown *top
	for {
		now, top, changed := l.snapshot()
		// What was missed is in the history.
		if now.Second > second+1 {
			if event(out, "hello", l.hello()) != nil {
				return
			}
		}
		second = now.Second
		if event(out, "state", now) != nil {
			return
		}
		if top != shown {
			shown = top
			if event(out, "top", top) != nil {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-end.C:
			return
		case <-r.Context().Done(): // the viewer has left, or Close
			return
		}
	}
}

// event writes one server-sent event.
func event(w *patient, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
	return err
}
