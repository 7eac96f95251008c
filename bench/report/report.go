package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// Write makes report.md and the charts in dir.
func Write(r *lab.Results, dir string) error {
	drawn, err := drawCharts(r, dir)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	page(&b, r, drawn)
	appendix(&b, r)
	return os.WriteFile(filepath.Join(dir, "report.md"), b.Bytes(), 0o644)
}

// Print writes for the terminal what a person wants to see at once.
func Print(w io.Writer, r *lab.Results) {
	eachTable(r, func(title string, t table) {
		fmt.Fprintf(w, "\n%s\n", title)
		t.text(w)
	}, func(s string) []column {
		if s == "pinned" {
			return []column{rpsColumn, cpuColumn, p99Column, peakColumn}
		}
		return columnsOf(s)
	})
	if t := duelsTable(r); len(t) > 1 {
		fmt.Fprintln(w, "\nduels: the first one's figure over the second's, 95 % of the median")
		t.plain().text(w)
	}
	if t := checksTable(r); len(t) > 1 {
		fmt.Fprintln(w, "\nwhat counterd promises of its speed")
		t.text(w)
	}
	for _, c := range cautions(r) {
		fmt.Fprintf(w, "\nCareful: %s\n", c)
	}
	if words := agreement(r); words != "" {
		fmt.Fprintf(w, "\n%s\n", words)
	}
}

// page is what a reader reads to the end.
func page(w *bytes.Buffer, r *lab.Results, drawn map[string]bool) {
	e := r.Environment
	fmt.Fprint(w, "# Counting over HTTP: event loop or goroutine per connection?\n\n")
	fmt.Fprintf(w, "Run `%s` (%s), %s: %s, %d cores%s, %s, %s; %d turns and %d duels in %v. %s\n\n", r.Run, r.Mode, r.Started.Format("2 January 2006"),
		e.CPU, e.Cores, virtual(e), e.Kernel, e.Versions["go"], len(r.Samples), len(r.Duels), r.Finished.Sub(r.Started).Round(time.Second), agreement(r))
	for _, c := range cautions(r) {
		fmt.Fprintf(w, "**Careful:** %s\n\n", c)
	}
	picture := func(name, alt string) {
		if drawn[name] {
			fmt.Fprintf(w, "![%s](%s.svg)\n\n", alt, name)
		}
	}
	picture("headline", "Requests per second")
	if len(r.Duels) > 0 {
		fmt.Fprint(w, "A ratio is the median over the pairs of a duel: both programs stay up, and get the load in alternate slices. "+
			"In brackets is its 95 % interval; bold is what is claimed. How it is measured: [bench/README.md](../../README.md).\n\n")
	}
	w.WriteString(loopOrGoroutine(r))
	picture("loop", "Event loop against goroutine per connection")
	for _, t := range topics {
		w.WriteString(t.write(r))
		if t.title == "PostgreSQL" {
			picture("seed", "The seed's experiment")
		}
	}
	if drawn["latency"] || drawn["memory"] {
		fmt.Fprint(w, "## Latency and memory\n\n")
		picture("latency", "Latency at the same rate")
		picture("memory", "Memory of an idle connection")
	}
	if t := checksTable(r); len(t) > 1 {
		fmt.Fprint(w, "## What counterd promises of its speed\n\n")
		t.markdown(w)
	}
	if slices.ContainsFunc(r.Duels, func(d lab.Duel) bool { return d.A == d.B }) {
		fmt.Fprintf(w, "## What this machine lets one see\n\nThe same program against itself:\n\n%s\n", noiseInWords(r))
	}
}

// appendix has everything else.
func appendix(w *bytes.Buffer, r *lab.Results) {
	fmt.Fprint(w, "# Appendix\n\nAbsolute figures are this machine's at that hour. ± is the larger half of the interval: "+
		"95 % confidence with six values or more, else smallest to largest.\n\n")
	if t := duelsTable(r); len(t) > 1 {
		fmt.Fprint(w, "## Every duel\n\nThe first one's figure over the second's; then both medians.\n\n")
		t.markdown(w)
	}
	eachTable(r, func(title string, t table) {
		fmt.Fprintf(w, "## %s\n\n", title)
		t.markdown(w)
		if slices.ContainsFunc(t, func(row []string) bool { return strings.HasSuffix(row[0], " *") }) {
			fmt.Fprint(w, "\\* another protocol and load generator.\n\n")
		}
	}, columnsOf)
	ownWords(w, r)
	absences(w, r)
	environment(w, r)
}

// eachTable makes the tables of turns, in the order of the scenarios.
func eachTable(r *lab.Results, each func(title string, t table), columns func(string) []column) {
	for _, s := range lab.Scenarios {
		for _, p := range s.Points {
			t := contenderTable(r, s.Name, p.Name, columns(s.Name)...)
			if len(t) < 2 {
				continue
			}
			title := s.Title
			if len(s.Points) > 1 {
				title += ": " + p.Words
			}
			each(title, t)
		}
	}
}

// duelsTable has a row for each duel that may be used.
func duelsTable(r *lab.Results) table {
	t := table{{"where", "who", "requests/s", "CPU/request", "99 % latency", "requests/s", "CPU µs", "HTTP rules kept", "pairs", ""}}
	for _, d := range inOrder(r.Duels) {
		if d.Invalid != "" {
			continue
		}
		a, b := d.Median(0), d.Median(1)
		t = append(t, []string{
			lab.Where(d.Scenario, d.Point), d.A + " : " + d.B,
			times(d.RPS, r.Judge(d, lab.RatioRPS)), times(d.CPU, r.Judge(d, lab.RatioCPU)), tail(r, d),
			significant(a.RPS) + " : " + significant(b.RPS), significant(a.CPU) + " : " + significant(b.CPU),
			score(r.About(d.A)) + " : " + score(r.About(d.B)),
			fmt.Sprint(len(d.Pairs)), d.NoClaim,
		})
	}
	return t
}

// inOrder sorts duels by scenario and point: they were fought in random order.
func inOrder(duels []lab.Duel) []lab.Duel {
	position := map[[2]string]int{}
	for _, s := range lab.Scenarios {
		for _, p := range s.Points {
			position[[2]string{s.Name, p.Name}] = len(position)
		}
	}
	sorted := slices.Clone(duels)
	slices.SortStableFunc(sorted, func(a, b lab.Duel) int {
		return cmp.Or(
			cmp.Compare(position[[2]string{a.Scenario, a.Point}], position[[2]string{b.Scenario, b.Point}]),
			cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B), a.At.Compare(b.At))
	})
	return sorted
}

func tail(r *lab.Results, d lab.Duel) string {
	if d.P99.N == 0 {
		return "–"
	}
	return times(d.P99, r.Judge(d, lab.RatioP99))
}

func checksTable(r *lab.Results) table {
	t := table{{"", "ratio", "asked", ""}}
	for _, c := range r.Checks {
		t = append(t, []string{c.Title, checked(c), c.Words(), verdict(c)})
	}
	return t
}

func checked(c lab.Check) string {
	if c.Limit > 10 {
		return c.Ratio.Format("%.0f")
	}
	return c.Ratio.Format("%.2f")
}

func verdict(c lab.Check) string {
	switch {
	case c.Why != "":
		return c.Why
	case !c.Pass:
		return "FAIL"
	case !c.Sure():
		return "pass by the median; the interval reaches beyond"
	}
	return "pass"
}

// agreement says that counts were compared, if all agreed.
func agreement(r *lab.Results) string {
	n := 0
	for _, s := range r.Samples {
		if s.Counted >= 0 {
			n++
		}
	}
	for _, d := range r.Duels {
		n += 2 * len(d.Pairs)
	}
	if n == 0 || r.Wrong() != nil {
		return ""
	}
	return fmt.Sprintf("After each of %s measurements the server's count agreed with the client's.", thousands(float64(n)))
}

// cautions are what a reader must know before the figures.
func cautions(r *lab.Results) []string {
	var all []string
	if err := r.Wrong(); err != nil {
		all = append(all, "this run must not be trusted. What follows leaves these figures out:\n"+block(err.Error()))
	}
	if err := r.Failed(); err != nil {
		all = append(all, "not all went well; this is missing:\n"+block(err.Error()))
	}
	if r.Interrupted {
		all = append(all, "the run was stopped before its end; this is what was measured until then.")
	}
	const tolerable = 0.05
	e := r.Environment
	if e.Busy > tolerable || e.BusyAfter > tolerable {
		all = append(all, fmt.Sprintf("others used %.0f %% of the machine before the run and %.0f %% after it.", 100*e.Busy, 100*e.BusyAfter))
	}
	if e.DataFS == "tmpfs" {
		all = append(all, "the stores lay in memory: durable figures mean nothing.")
	}
	if noise, measured := r.Noise(lab.RatioRPS); measured && noise > tolerable {
		all = append(all, fmt.Sprintf("the same program was %.0f %% apart from itself, so little can be claimed.", 100*noise))
	}
	if met := clientErrors(r); met != "" {
		all = append(all, "the client met errors, which took their time:\n"+block(met))
	}
	return all
}

func block(s string) string { return "\n```\n" + s + "\n```" }

// clientErrors lists the turns whose client met broken connections or timeouts:
// the count was right, the rate may not be the server's.
func clientErrors(r *lab.Results) string {
	var met []string
	for _, s := range r.Samples {
		e := s.Client.Errors
		if e.Connect+e.Read+e.Write+e.Timeout > 0 {
			met = append(met, fmt.Sprintf("%s %s, %s, round %d: connect %d, read %d, write %d, timeout %d",
				s.Scenario, s.Point, s.Contender, s.Round+1, e.Connect, e.Read, e.Write, e.Timeout))
		}
	}
	return strings.Join(met, "\n")
}

// seedsOwn is what the seed's README has.
const seedsOwn = `  default asyncio loop: 2349.50 requests/s, latency 42.58ms mean, 151.98ms longest
  uvloop:               2808.89 requests/s, latency 91.17ms mean, 1.70s longest
  in Docker, default:   1518.05 requests/s, latency 65.78ms mean, 181.00ms longest
  in Docker, uvloop:    1673.51 requests/s, latency 193.20ms mean, 1.99s longest`

// ownWords are wrk's, as the seed's README has them.
func ownWords(w io.Writer, r *lab.Results) {
	var b strings.Builder
	for _, s := range r.Samples {
		if s.Output != "" && s.Round == 0 {
			fmt.Fprintf(&b, "**%s, %s**\n%s\n\n", r.About(s.Contender).Title, lab.Where(s.Scenario, s.Point), block(strings.TrimSpace(s.Output)))
		}
	}
	if b.Len() == 0 {
		return
	}
	fmt.Fprintf(w, "## wrk's own words\n\nThe seed's own figures, on its author's laptop (macOS, 2.2 GHz Core i7, PostgreSQL 9.6):\n%s\n\n"+
		"<details><summary>Of this run</summary>\n\n%s</details>\n\n", block(seedsOwn), &b)
}

func absences(w io.Writer, r *lab.Results) {
	if len(r.NotMeasured) == 0 {
		return
	}
	fmt.Fprint(w, "## Not measured\n\n")
	t := table{{"what", "why"}}
	for _, a := range r.NotMeasured {
		first, _, _ := strings.Cut(a.Why, "\n")
		t = append(t, []string{strings.Join(strings.Fields(a.Scenario+" "+a.Point+" "+a.Contender), " "), first})
	}
	t.words(w)
}

func virtual(e lab.Environment) string {
	if e.Virtual {
		return " of a virtual machine"
	}
	return ""
}

func environment(w io.Writer, r *lab.Results) {
	e := r.Environment
	fmt.Fprint(w, "## Environment\n\n")
	t := table{{"", ""}}
	add := func(name, value string) { t = append(t, []string{name, value}) }
	add("system", e.OS+", "+e.Kernel)
	add("processor", fmt.Sprintf("%s, %d cores%s", e.CPU, e.Cores, virtual(e)))
	add("memory", fmt.Sprintf("%d MiB", e.MemoryMiB))
	add("file system of the stores", e.DataFS)
	add("others used", fmt.Sprintf("%.0f %% of the machine before, %.0f %% after, %s in the median duel", 100*e.Busy, 100*e.BusyAfter, othersInDuels(r)))
	add("taken by the hypervisor", stolen(r))
	for _, m := range []map[string]string{e.Limits, e.Versions} {
		for _, name := range sortedKeys(m) {
			add(name, m[name])
		}
	}
	commit := e.Commit
	if e.Modified {
		commit += ", modified"
	}
	add("commit", commit)
	add("order", fmt.Sprintf("`--seed %d`", r.Seed))
	t.words(w)
}

func othersInDuels(r *lab.Results) string {
	var all []float64
	for _, d := range r.Duels {
		all = append(all, d.Others)
	}
	return fmt.Sprintf("%.1f %%", 100*stat.Summarize(all).Center)
}

func stolen(r *lab.Results) string {
	var all []float64
	for _, s := range r.Samples {
		all = append(all, s.Server.Stolen)
	}
	if len(all) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %% of the machine in the median turn, %.0f %% in the worst", 100*stat.Summarize(all).Center, 100*slices.Max(all))
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
