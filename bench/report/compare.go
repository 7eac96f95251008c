package report

import (
	"fmt"
	"io"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// Compare says what changed from run a to run b beyond noise.
func Compare(w io.Writer, a, b *lab.Results) {
	fmt.Fprintf(w, "from %s (%s)\nto   %s (%s)\n", a.Run, short(a.Environment.Commit), b.Run, short(b.Environment.Commit))
	for _, what := range differences(a.Environment, b.Environment) {
		fmt.Fprintf(w, "careful: %s\n", what)
	}
	t := table{{"what changed", "from", "to", "change"}}
	same := 0
	for _, at := range common(a, b) {
		for _, c := range []column{rpsColumn, cpuColumn, p99Column, perConnColumn} {
			from, to := a.Summary(at, c.metric), b.Summary(at, c.metric)
			if from.N == 0 || to.N == 0 {
				continue
			}
			if !changed(from, to, max(a.Noise(c.metric), b.Noise(c.metric))) {
				same++
				continue
			}
			t = append(t, []string{
				fmt.Sprintf("%s %s, %s: %s", at.Scenario, at.Point, at.Contender, c.head),
				c.write(from), c.write(to), fmt.Sprintf("%+.1f %%", 100*(to.Center/from.Center-1)),
			})
		}
	}
	fmt.Fprintln(w)
	if len(t) > 1 {
		t.text(w)
	}
	fmt.Fprintf(w, "\n%d figures changed, %d show no difference.\n", len(t)-1, same)
}

// changed asks for intervals that don't meet, and for more than noise: the
// runs were apart in time, so there are no rounds to pair.
func changed(from, to stat.Interval, noise float64) bool {
	if from.Center == 0 || from.N < 2 || to.N < 2 || from.Overlaps(to) {
		return false
	}
	change := to.Center/from.Center - 1
	return change > noise || change < -noise
}

func common(a, b *lab.Results) []lab.At {
	in := map[lab.At]bool{}
	for _, s := range b.Samples {
		in[lab.At{Scenario: s.Scenario, Point: s.Point, Contender: s.Contender}] = true
	}
	var both []lab.At
	for _, sc := range lab.Scenarios {
		for _, p := range sc.Points {
			for _, c := range a.Measured(sc.Name, p.Name) {
				at := lab.At{Scenario: sc.Name, Point: p.Name, Contender: c.Name}
				if in[at] {
					both = append(both, at)
				}
			}
		}
	}
	return both
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
