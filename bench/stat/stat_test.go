package stat

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSummarizeFewValuesGivesTheirRange(t *testing.T) {
	got := Summarize([]float64{3, 1, 2})
	want := Interval{2, 1, 3, 3, MinMax}
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// The textbook's 95 % interval of the median: with ten values it runs from
// the second to the ninth (coverage 97.9 %).
func TestSummarizeTenValuesGivesTheOrderStatistics(t *testing.T) {
	got := Summarize([]float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1})
	want := Interval{5.5, 2, 9, 10, Confidence95}
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestSummarizeEdges(t *testing.T) {
	if got := Summarize(nil); got.N != 0 {
		t.Errorf("nothing: %+v", got)
	}
	if got := Summarize([]float64{7}); got != (Interval{7, 7, 7, 1, MinMax}) {
		t.Errorf("one value: %+v", got)
	}
}

// Nineteen times in twenty the interval must hold the true median.
func TestIntervalCoversTheMedian(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const trials, n = 2000, 8
	covered := 0
	for range trials {
		values := make([]float64, n)
		for i := range values {
			values[i] = math.Exp(rng.NormFloat64()) // skewed, as latencies are; median 1
		}
		if i := Summarize(values); i.Lo <= 1 && i.Hi >= 1 {
			covered++
		}
	}
	if share := float64(covered) / trials; share < 0.95 {
		t.Errorf("the median was inside %.1f %% of the time", 100*share)
	}
}

func TestJudgeClaimsOnlyWhatIsSure(t *testing.T) {
	for _, c := range []struct {
		name  string
		ratio Interval
		noise float64
		want  Order
	}{
		{"nothing measured", Interval{}, 0, NoClaim},
		{"a few values", Interval{2, 1.9, 2.1, 5, MinMax}, 0, NoClaim},
		{"above", Interval{1.5, 1.4, 1.6, 12, Confidence95}, 0.02, Higher},
		{"below", Interval{0.5, 0.4, 0.6, 12, Confidence95}, 0.02, Lower},
		{"reaches over one", Interval{1.5, 0.9, 1.6, 12, Confidence95}, 0.02, NoDifference},
		{"within the noise", Interval{1.03, 1.01, 1.05, 12, Confidence95}, 0.04, NoDifference},
	} {
		if got := Judge(c.ratio, c.noise); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWidthIsTheLargerHalf(t *testing.T) {
	if got := (Interval{Center: 2, Lo: 1.9, Hi: 2.2}).Width(); math.Abs(got-0.1) > 1e-9 {
		t.Errorf("got %v, want 0.1", got)
	}
	if got := (Interval{}).Width(); !math.IsInf(got, 1) {
		t.Errorf("nothing is known, and it is ±%v", got)
	}
}

func TestRoundToSignificantDigits(t *testing.T) {
	for v, want := range map[float64]float64{123456.789: 123460, 0.000123456: 0.00012346, 0: 0, 12: 12} {
		if got := Round(v, 5); got != want {
			t.Errorf("%v: %v, want %v", v, got, want)
		}
	}
}
