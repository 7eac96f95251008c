package report

import (
	"fmt"
	"io"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// Compare says what changed from run a to run b. Ratios of duels are compared:
// absolute figures of two hours differ by what else the machine did.
func Compare(w io.Writer, a, b *lab.Results) {
	fmt.Fprintf(w, "from %s (%s)\nto   %s (%s)\n", a.Run, short(a.Environment.Commit), b.Run, short(b.Environment.Commit))
	for _, what := range differences(a.Environment, b.Environment) {
		fmt.Fprintf(w, "careful: %s\n", what)
	}
	t := table{{"what changed", "from", "to"}}
	same := 0
	compare := func(what string, from, to stat.Interval, noise float64) {
		switch {
		case from.N < 2 || to.N < 2:
		case changed(from, to, noise):
			t = append(t, []string{what, from.Format("%.3g"), to.Format("%.3g")})
		default:
			same++
		}
	}
	for _, d := range a.Duels {
		e, ok := b.Duel(d.Scenario, d.Point, d.A, d.B)
		if !ok || d.Invalid != "" || d.A == d.B {
			continue
		}
		compare(d.String()+": requests/s", d.RPS, e.RPS, noiseOf(a, b, lab.RatioRPS))
		compare(d.String()+": CPU/request", d.CPU, e.CPU, noiseOf(a, b, lab.RatioCPU))
	}
	for _, c := range a.Measured("idle", "c=10000") {
		at := lab.At{Scenario: "idle", Point: "c=10000", Contender: c.Name}
		compare(c.Name+": bytes per idle connection", a.Summary(at, lab.PerConn), b.Summary(at, lab.PerConn), 0.02)
	}
	if len(t) > 1 {
		fmt.Fprintln(w)
		t.text(w)
	}
	fmt.Fprintf(w, "\n%d figures changed, %d show no difference.\n", len(t)-1, same)
}

func noiseOf(a, b *lab.Results, ratio func(lab.Duel) stat.Interval) float64 {
	x, _ := a.Noise(ratio)
	y, _ := b.Noise(ratio)
	return max(x, y)
}

// changed asks for intervals that don't meet, and for more than noise.
func changed(from, to stat.Interval, noise float64) bool {
	if from.Center == 0 || from.Overlaps(to) {
		return false
	}
	change := to.Center/from.Center - 1
	return change > noise || change < -noise
}

func differences(a, b lab.Environment) []string {
	var found []string
	differ := func(name, x, y string) {
		if x != y {
			found = append(found, fmt.Sprintf("%s: %s, then %s", name, x, y))
		}
	}
	differ("processor", a.CPU, b.CPU)
	differ("cores", fmt.Sprint(a.Cores), fmt.Sprint(b.Cores))
	differ("kernel", a.Kernel, b.Kernel)
	differ("file system", a.DataFS, b.DataFS)
	for _, name := range sortedKeys(a.Versions) {
		differ(name, a.Versions[name], b.Versions[name])
	}
	return found
}

func short(commit string) string { return commit[:min(len(commit), 12)] }
