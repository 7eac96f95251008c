package stat

import (
	"math"
	"math/rand/v2"
	"slices"
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
		if !Summarize(values).Excludes(1) {
			covered++
		}
	}
	if share := float64(covered) / trials; share < 0.95 {
		t.Errorf("the median was inside %.1f %% of the time", 100*share)
	}
}

func TestRatioPairsByRound(t *testing.T) {
	a := map[int]float64{0: 20, 1: 400, 2: 60, 3: 1}
	b := map[int]float64{0: 10, 1: 200, 2: 30, 7: 5}
	got := Ratio(a, b)
	if got.N != 3 || got.Center != 2 || got.Lo != 2 || got.Hi != 2 {
		t.Errorf("the machine's drift must cancel inside a round: %+v", got)
	}
	if got := Ratio(a, map[int]float64{0: 0}); got.N != 0 {
		t.Errorf("a zero can't be divided by: %+v", got)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name  string
		ratio Interval
		noise float64
		want  Order
	}{
		{"nothing measured", Interval{}, 0, Unmeasured},
		{"one round", Interval{2, 2, 2, 1, MinMax}, 0, TooFew},
		{"above", Interval{1.5, 1.4, 1.6, 5, MinMax}, 0.02, Higher},
		{"below", Interval{0.5, 0.4, 0.6, 5, MinMax}, 0.02, Lower},
		{"reaches over one", Interval{1.5, 0.9, 1.6, 5, MinMax}, 0.02, NoDifference},
		{"within the noise", Interval{1.03, 1.01, 1.05, 5, MinMax}, 0.04, NoDifference},
	} {
		if got := Judge(c.ratio, c.noise); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRankSharesThePlaceOfOverlaps(t *testing.T) {
	names, places := Rank(map[string]Interval{
		"slow": {Center: 10, Lo: 9, Hi: 11},
		"a":    {Center: 100, Lo: 90, Hi: 110},
		"b":    {Center: 95, Lo: 89, Hi: 99},
		"c":    {Center: 70, Lo: 60, Hi: 80},
	})
	if want := []string{"a", "b", "c", "slow"}; !slices.Equal(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
	if want := []int{1, 1, 3, 4}; !slices.Equal(places, want) {
		t.Errorf("places %v, want %v", places, want)
	}
}
