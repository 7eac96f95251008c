// Package stat says what repeated measurements allow one to say.
//
// A figure is a median with an interval. With six values or more the interval
// is a distribution-free 95 % confidence interval of the median (order
// statistics, by golang.org/x/perf/benchmath); with fewer there is no such
// interval at 95 %, and the interval is the smallest and largest value seen.
package stat

import (
	"fmt"
	"math"
	"slices"
	"strconv"

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

// Width is the larger half of the interval as a share of the median: 0.02 is ±2 %.
func (i Interval) Width() float64 {
	if i.Center == 0 {
		return math.Inf(1)
	}
	return max(i.Hi-i.Center, i.Center-i.Lo) / i.Center
}

// Overlaps reports whether the two intervals share a value.
func (i Interval) Overlaps(j Interval) bool { return i.Lo <= j.Hi && j.Lo <= i.Hi }

// Rounded leaves four digits.
func (i Interval) Rounded() Interval {
	i.Center, i.Lo, i.Hi = Round(i.Center, 4), Round(i.Lo, 4), Round(i.Hi, 4)
	return i
}

// Order is what a comparison may claim.
type Order int

// A comparison ends in one of these.
const (
	NoClaim Order = iota // too little was measured, or something was wrong
	NoDifference
	Higher
	Lower
)

// Judge says what a ratio allows one to claim. noise is how far the very same
// program was from itself on this machine (0.02 is 2 %): what isn't beyond that
// is no difference, whatever the interval says. Without a 95 % interval there is
// no claim.
func Judge(ratio Interval, noise float64) Order {
	switch {
	case ratio.Kind != Confidence95:
		return NoClaim
	case ratio.Lo > 1 && ratio.Center > 1+noise:
		return Higher
	case ratio.Hi < 1 && ratio.Center < 1-noise:
		return Lower
	}
	return NoDifference
}

// Round leaves so many significant digits.
func Round(v float64, digits int) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64)
	return r
}

// Format prints center (lo–hi) with the given verb, such as "%.2f".
func (i Interval) Format(verb string) string {
	switch i.N {
	case 0:
		return "–"
	case 1:
		return fmt.Sprintf(verb, i.Center)
	}
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", i.Center, i.Lo, i.Hi)
}
