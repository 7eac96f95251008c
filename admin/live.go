package admin

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	// historySeconds is what the chart shows.
	historySeconds = 300

	// windowSeconds is what the quantiles of commits are taken over.
	windowSeconds = 10

	// countEvery is how often a changed count is sent to viewers.
	countEvery = 200 * time.Millisecond

	// streamWrite is how long a viewer may take to receive an update.
	streamWrite = 5 * time.Second

	// streamLife ends a stream now and then; the browser comes back by itself.
	// So nothing is held for ever for a viewer that is gone without a word.
	streamLife = time.Hour
)

//go:embed assets
var assets embed.FS

var pageTemplate = template.Must(template.ParseFS(assets, "assets/page.html"))

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

// live samples the server once a second for the page and its streams.
type live struct {
	s       *Server
	started time.Time
	limit   int64
	streams atomic.Int64
	done    chan struct{}

	// Only run touches these.
	hits    uint64
	commits []commitSums // one per second, the newest last

	mu      sync.Mutex
	now     state
	rates   []float64     // hits per second, the newest last
	changed chan struct{} // closed when now changes
}

// state is one update of the page.
type state struct {
	Second   int64    `json:"second"` // samples taken since the start
	Count    string   `json:"count"`  // a string: JavaScript's numbers end at 2^53
	Rate     float64  `json:"rate"`
	Open     int64    `json:"open"`
	P50      *float64 `json:"p50"` // seconds; null: no commit lately
	P99      *float64 `json:"p99"`
	Batch    *float64 `json:"batch"` // hits per commit
	StoreUp  bool     `json:"up"`
	Trouble  string   `json:"trouble"` // why the store is down
	Draining bool     `json:"draining"`
	Uptime   int64    `json:"uptime"` // seconds
}

// hello is what a stream begins with; after a restart it may differ.
type hello struct {
	Engine  string    `json:"engine"`
	Store   string    `json:"store"`
	Version string    `json:"version"`
	Second  int64     `json:"second"` // of the last rate
	Rates   []float64 `json:"rates"`
}

func newLive(s *Server, limit int) *live {
	l := &live{s: s, started: time.Now(), limit: int64(limit), done: make(chan struct{}), changed: make(chan struct{})}
	l.hits = s.opts.Traffic().Hits
	l.now = state{Count: strconv.FormatInt(s.opts.Total(), 10), StoreUp: true}
	return l
}

// run samples until ctx ends. Without viewers it wakes once a second.
func (l *live) run(ctx context.Context) {
	defer close(l.done)
	next := time.Now().Add(time.Second)
	last := time.Now()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if now := time.Now(); !now.Before(next) {
			l.sample(now.Sub(last))
			last = now
			// After a pause of the whole machine seconds are left out, not made up.
			for !next.After(now) {
				next = next.Add(time.Second)
			}
		} else {
			l.refreshCount()
		}
		wait := time.Until(next)
		if l.streams.Load() > 0 {
			l.s.probe.start()
			wait = min(wait, countEvery)
		}
		timer.Reset(wait)
	}
}

// sample takes the state of this second, which took so long.
func (l *live) sample(took time.Duration) {
	t := l.s.opts.Traffic()
	rate := float64(t.Hits-l.hits) / took.Seconds()
	l.hits = t.Hits
	p50, p99, batch := l.commitWindow()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.rates = append(l.rates, math.Round(rate*10)/10)
	if len(l.rates) > historySeconds {
		l.rates = append(l.rates[:0], l.rates[len(l.rates)-historySeconds:]...)
	}
	l.now.Second++
	l.now.Rate = l.rates[len(l.rates)-1]
	l.now.Open = t.Open
	l.now.P50, l.now.P99, l.now.Batch = p50, p99, batch
	l.now.Uptime = int64(time.Since(l.started).Seconds())
	l.update()
	l.publish()
}

// refreshCount publishes the count, or the store's state, if it has changed.
func (l *live) refreshCount() {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.now
	l.update()
	if l.now != before {
		l.publish()
	}
}

// update brings now up to date as far as that costs nothing.
func (l *live) update() {
	a := l.s.probe.latest()
	l.now.Count = strconv.FormatInt(max(a.total, l.s.opts.Total()), 10)
	l.now.StoreUp, l.now.Trouble = a.err == nil, ""
	if a.err != nil {
		l.now.Trouble = a.err.Error()
	}
	l.now.Draining = l.s.draining.Load()
}

func (l *live) publish() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// snapshot returns the state, and what is closed when it changes.
func (l *live) snapshot() (state, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.changed
}

func (l *live) hello() hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &l.s.opts
	return hello{Engine: o.Engine, Store: o.Store, Version: o.Version, Second: l.now.Second, Rates: append([]float64{}, l.rates...)}
}

// page is the first HTML, with the count as it is now.
func (l *live) page(w http.ResponseWriter, r *http.Request) {
	// The answer, or its absence, is in the state below.
	_, _ = l.s.probe.ask(r.Context())
	l.refreshCount()
	now, _ := l.snapshot()
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
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many viewers", http.StatusServiceUnavailable)
		return
	}
	defer l.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	end := time.NewTimer(streamLife)
	defer end.Stop()

	second := int64(-2)
	for {
		now, changed := l.snapshot()
		if err := out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return
		}
		// What was missed is in the history.
		if now.Second > second+1 {
			if event(w, "hello", l.hello()) != nil {
				return
			}
		}
		second = now.Second
		if event(w, "state", now) != nil || out.Flush() != nil {
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
func event(w http.ResponseWriter, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
	return err
}

// commitSums is what Commits held at one moment.
type commitSums struct {
	upper   []float64 // bounds of the buckets, in seconds
	below   []uint64  // commits up to each bound
	commits uint64
	hits    float64
}

// commitWindow returns quantiles of the commit latency and the mean size of a
// commit over the last seconds; nil where there was none.
func (l *live) commitWindow() (p50, p99, batch *float64) {
	if l.s.opts.Commits == nil {
		return nil, nil, nil
	}
	now := l.s.opts.Commits.sums()
	l.commits = append(l.commits, now)
	if len(l.commits) > windowSeconds+1 {
		l.commits = append(l.commits[:0], l.commits[1:]...)
	}
	old := l.commits[0]
	if now.commits == old.commits {
		return nil, nil, nil
	}
	mean := (now.hits - old.hits) / float64(now.commits-old.commits)
	return quantile(old, now, 0.50), quantile(old, now, 0.99), &mean
}

func (c *Commits) sums() commitSums {
	duration, hits := read(c.duration), read(c.hits)
	s := commitSums{commits: duration.GetSampleCount(), hits: hits.GetSampleSum()}
	for _, b := range duration.GetBucket() {
		s.upper = append(s.upper, b.GetUpperBound())
		s.below = append(s.below, b.GetCumulativeCount())
	}
	return s
}

func read(h prometheus.Histogram) *dto.Histogram {
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		panic(err) // a histogram of ours always can
	}
	return m.GetHistogram()
}

// quantile interpolates q of the commits between two moments. Beyond the last
// bound it returns that bound.
func quantile(old, now commitSums, q float64) *float64 {
	rank := q * float64(now.commits-old.commits)
	lower, before := 0.0, 0.0
	for i, upper := range now.upper {
		below := float64(now.below[i])
		if i < len(old.below) {
			below -= float64(old.below[i])
		}
		if below >= rank && below > before {
			v := lower + (upper-lower)*(rank-before)/(below-before)
			return &v
		}
		lower, before = upper, below
	}
	return &lower
}
