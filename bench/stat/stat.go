// Package stat says what a few repeated measurements allow one to say.
//
// A figure is a median with an interval. With six rounds or more the interval
// is a distribution-free 95 % confidence interval of the median (order
// statistics, by golang.org/x/perf/benchmath); with fewer there is no such
// interval at 95 %, and the interval is the smallest and largest value seen.
// Two contenders are compared by ratios taken inside a round, because what
// disturbs a shared machine disturbs neighbours in time alike.
package stat

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

const confidence = 0.95

// The kinds of interval.
const (
	Confidence95 = "95% CI"
	MinMax       = "min–max"
)

// Interval is a median and what it may be off by.
type Interval struct {
	Center float64 `json:"center"`
	Lo     float64 `json:"lo"`
	Hi     float64 `json:"hi"`
	N      int     `json:"n"`
	Kind   string  `json:"kind"`
}

// Summarize returns the median of the values and its interval. No values: N is 0.
func Summarize(values []float64) Interval {
	if len(values) == 0 {
		return Interval{}
	}
	sorted := slices.Sorted(slices.Values(values))
	thresholds := benchmath.DefaultThresholds
	sample := benchmath.NewSample(sorted, &thresholds)
	s := benchmath.AssumeNothing.Summary(sample, confidence)
	if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) && len(sorted) > 1 {
		return Interval{s.Center, s.Lo, s.Hi, len(sorted), Confidence95}
	}
	return Interval{s.Center, sorted[0], sorted[len(sorted)-1], len(sorted), MinMax}
}

// Ratio pairs a and b by round and summarizes a/b. A round that lacks either
// is left out.
func Ratio(a, b map[int]float64) Interval {
	var ratios []float64
	for round, x := range a {
		if y, ok := b[round]; ok && y != 0 {
			ratios = append(ratios, x/y)
		}
	}
	return Summarize(ratios)
}

// Overlaps tells whether the two intervals share a value.
func (i Interval) Overlaps(j Interval) bool { return i.Lo <= j.Hi && j.Lo <= i.Hi }

// Excludes tells whether x lies outside the interval.
func (i Interval) Excludes(x float64) bool { return i.N > 0 && (x < i.Lo || x > i.Hi) }

// Order is what a comparison may claim.
type Order int

// A comparison ends in one of these.
const (
	Unmeasured Order = iota // a side is missing
	TooFew                  // not enough rounds to claim anything
	NoDifference
	Higher
	Lower
)

// minRounds is what a claim needs. With three rounds all three fall on the
// same side once in four by chance, hence the noise threshold of Judge too.
const minRounds = 3

// Judge says what a ratio allows one to claim. noise is how far two runs of
// the very same program were apart on this machine (0.02 is 2 %): what isn't
// beyond that is no difference, whatever the interval says.
func Judge(ratio Interval, noise float64) Order {
	switch {
	case ratio.N == 0:
		return Unmeasured
	case ratio.N < minRounds:
		return TooFew
	case ratio.Lo > 1 && ratio.Center > 1+noise:
		return Higher
	case ratio.Hi < 1 && ratio.Center < 1-noise:
		return Lower
	}
	return NoDifference
}

// Rank orders named intervals from the highest down and gives equal places to
// neighbours that overlap: a place is shared from the first whose interval
// reaches into that of the best of the group.
func Rank(named map[string]Interval) (names []string, places []int) {
	for name := range named {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := named[b].Center - named[a].Center; d != 0 {
			return int(math.Copysign(1, d))
		}
		if a < b {
			return -1
		}
		return 1
	})
	places = make([]int, len(names))
	best := 0
	for i, name := range names {
		if i > 0 && !named[name].Overlaps(named[names[best]]) {
			best = i
		}
		places[i] = best + 1
	}
	return names, places
}

// Format prints center (lo–hi) with the given verb, such as "%.2f".
func (i Interval) Format(verb string) string {
	if i.N == 0 {
		return "–"
	}
	if i.N == 1 {
		return fmt.Sprintf(verb, i.Center)
	}
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", i.Center, i.Lo, i.Hi)
}
