package admin

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Commits measures what a counter commits. Give its Observe to the counter and
// itself to Options.
type Commits struct {
	duration prometheus.Histogram
	hits     prometheus.Histogram
	failed   prometheus.Counter
}

// NewCommits returns an empty Commits.
func NewCommits() *Commits {
	return &Commits{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "counterd_commit_duration_seconds",
			Help: "Time the store took for a commit of hits that succeeded.",
			// From a fast disk to a slow database, fine enough that a quantile
			// between two bounds is off by a third at most.
			Buckets: prometheus.ExponentialBucketsRange(20e-6, 5, 32),
		}),
		hits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "counterd_commit_hits",
			Help:    "Hits that one commit made durable together.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 16),
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "counterd_commit_failures_total",
			Help: "Commits that failed. Each may have been counted or not.",
		}),
	}
}

// Observe records a commit of hits that took so long. It never blocks. Reads
// alone are not recorded: health checks are such, and cost a file nothing.
func (c *Commits) Observe(hits int64, _ int, took time.Duration, err error) {
	if hits == 0 {
		return
	}
	if err != nil {
		c.failed.Inc()
		return
	}
	c.duration.Observe(took.Seconds())
	c.hits.Observe(float64(hits))
}

// metrics serves a registry of its own, so that no library adds to it.
func (s *Server) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collector{s},
	)
	if c := s.opts.Commits; c != nil {
		r.MustRegister(c.duration, c.hits, c.failed)
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		Registry:            r,
		MaxRequestsInFlight: 4,
		ErrorLog:            nil,
	})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("counterd_"+name, help, labels, nil)
}

var (
	descCount       = desc("count_current", "The count, as the store or the last commit said it. Exact up to 2^53.")
	descHits        = desc("hits_total", "Hits this process answered with a number.")
	descReads       = desc("reads_total", "Reads of the count this process answered.")
	descUnavailable = desc("unavailable_total", "Hits and reads answered 503 because the store was slow, away, full or overloaded.")
	descRefused     = desc("refused_requests_total", "Requests refused or malformed, by reason: a word of a fixed list.", "reason")
	descOpen        = desc("connections_open", "Connections open on the counting listener.")
	descMax         = desc("connections_max", "Connections the counting listener keeps open at most.")
	descAccepted    = desc("connections_accepted_total", "Connections accepted.")
	descRejected    = desc("connections_rejected_total", "Connections refused because too many were open.")
	descAcceptErrs  = desc("accept_errors_total", "Times accepting had to wait for descriptors or memory.")
	descStoreUp     = desc("store_up", "1 if the store takes hits, 0 if they get 503.")
	descDraining    = desc("draining", "1 while the server is stopping.")
	descStreams     = desc("live_streams", "Viewers of the live page.")
	descRetries     = desc("store_retries_total", "Attempts at the database beyond the first of each commit.")
	descAmbiguous   = desc("store_ambiguous_total", "Commits to the database of which an attempt had an unknown outcome.")
	descNames       = desc("counters", "Counters there are.")
	descNamesMax    = desc("counters_max", "Counters there may be at most.")
	descNamesRefs   = desc("counters_refused_total", "Hits answered 507 because there was no room for a new counter.")
	descBuild       = desc("build_info", "What this process was built from; always 1.", "version", "revision", "goversion")
	descServer      = desc("server_info", "What this process runs; always 1.", "engine", "store")
)

// collector reads the server's own statistics at each scrape, so that counting
// pays nothing for metrics.
type collector struct{ s *Server }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descCount, descHits, descReads, descUnavailable, descRefused, descOpen, descMax,
		descAccepted, descRejected, descAcceptErrs, descStoreUp, descDraining, descStreams,
		descRetries, descAmbiguous, descNames, descNamesMax, descNamesRefs, descBuild, descServer,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	o := &c.s.opts
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}

	t := o.Traffic()
	counter(descHits, t.Hits)
	counter(descReads, t.Reads)
	counter(descUnavailable, t.Unavailable)
	counter(descAccepted, t.Accepted)
	counter(descRejected, t.Rejected)
	counter(descAcceptErrs, t.AcceptErrors)
	for reason, n := range t.Refused {
		counter(descRefused, n, reason)
	}
	gauge(descOpen, float64(t.Open))
	gauge(descMax, float64(o.MaxConns))
	gauge(descStreams, float64(c.s.live.streams.Load()))
	gauge(descDraining, truth(c.s.draining.Load()))

	total, err := c.s.probe.ask(context.Background())
	gauge(descStoreUp, truth(err == nil))
	gauge(descCount, float64(max(total, o.Total())))

	if o.Stats != nil {
		st := o.Stats()
		counter(descRetries, st.Retries)
		counter(descAmbiguous, st.Ambiguous)
	}
	if o.Counters != nil {
		n, most := o.Counters.Names()
		gauge(descNames, float64(n))
		gauge(descNamesMax, float64(most))
		counter(descNamesRefs, t.TooMany)
	}
	gauge(descBuild, 1, o.Version, o.Revision, runtime.Version())
	gauge(descServer, 1, o.Engine, storeKind(o.Store))
}

// storeKind is the scheme of a store, such as file or dir.
func storeKind(store string) string {
	kind, _, _ := strings.Cut(store, ":")
	return kind
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
