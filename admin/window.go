package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// windowSeconds is what the page calls now where a single second would flicker:
// quantiles of commits, and whether something goes wrong.
const windowSeconds = 10

// reading is what the server's own sums were at one moment.
type reading struct {
	at          time.Time
	hits        uint64
	unavailable uint64
	refused     uint64
	rejected    uint64 // connections
	names       uint64 // hits refused because they would have made a new counter
	commits     commitSums
	open        int64 // connections
}

func (s *Server) reading() reading {
	t := s.opts.Traffic()
	r := reading{at: time.Now(), hits: t.Hits, unavailable: t.Unavailable, rejected: t.Rejected, names: t.TooMany, open: t.Open}
	for _, n := range t.Refused {
		r.refused += n
	}
	if s.opts.Commits != nil {
		r.commits = s.opts.Commits.sums()
	}
	return r
}

// window is the readings of the last seconds, the latest last. It is never empty.
type window []reading

func (w window) add(r reading) window {
	if len(w) > windowSeconds {
		w = append(w[:0], w[1:]...)
	}
	return append(w, r)
}

func (w window) first() *reading { return &w[0] }
func (w window) last() *reading  { return &w[len(w)-1] }

// rejected and the like say whether something was refused within the window.
func (w window) unavailable() bool { return w.last().unavailable > w.first().unavailable }
func (w window) rejected() bool    { return w.last().rejected > w.first().rejected }
func (w window) names() bool       { return w.last().names > w.first().names }

// batch is the mean size of the window's commits; nil where there was none.
func (w window) batch() *float64 {
	old, now := w.first().commits, w.last().commits
	if now.commits == old.commits {
		return nil
	}
	mean := (now.hits - old.hits) / float64(now.commits-old.commits)
	return &mean
}

// commitSums is what Commits held at one moment.
type commitSums struct {
	upper   []float64 // bounds of the buckets, in seconds
	below   []uint64  // commits up to each bound
	commits uint64
	hits    float64
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

// quantile interpolates q of the commits between two moments; nil where there was
// none. Beyond the last bound it returns that bound.
func quantile(old, now commitSums, q float64) *float64 {
	if now.commits == old.commits {
		return nil
	}
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
