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
	markdown(&b, r, drawn)
	return os.WriteFile(filepath.Join(dir, "report.md"), b.Bytes(), 0o644)
}

// Print writes for the terminal what a person wants to see at once.
func Print(w io.Writer, r *lab.Results) {
	for _, s := range lab.Scenarios {
		if s.Name == "noise" {
			continue
		}
		for _, p := range s.Points {
			t := contenderTable(r, s.Name, p.Name, terminalColumns(s.Name)...)
			if len(t) < 2 {
				continue
			}
			fmt.Fprintf(w, "\n%s (%s)\n", s.Title, p.Name)
			t.text(w)
		}
	}
	if found := answers(r); len(found) > 0 {
		fmt.Fprintln(w, "\nratios, taken inside each round")
		t := table{{"", "requests/s", "CPU/request"}}
		for _, a := range found {
			t = append(t, []string{a.question.title, plain(times(a.rps, a.rpsOrder)), plain(times(a.cpu, a.cpuOrder))})
		}
		t.text(w)
	}
	printChecks(w, r)
	if err := r.Failed(); err != nil {
		fmt.Fprintf(w, "\nNot all went well. What is here was checked as always; what is missing, or has a round less:\n%v\n", err)
	}
	if careful := disturbed(r); careful != "" {
		fmt.Fprintf(w, "\nCareful: %s\n", careful)
	}
	if met := clientErrors(r); met != "" {
		fmt.Fprintf(w, "\nThe client met errors, which took their time:\n%s\n", met)
	}
	if n := counted(r); r.Wrong() == nil && n > 0 {
		fmt.Fprintf(w, "\nEach of %d measurements: the server's count agrees with the client's.\n", n)
	}
}

func terminalColumns(scenario string) []column {
	switch scenario {
	case "idle":
		return []column{perConnColumn}
	case "open":
		return []column{rpsColumn, medianColumn, p99Column, p999Column, maxColumn}
	}
	return []column{rpsColumn, meanColumn, p99Column, cpuColumn, peakColumn}
}

func plain(s string) string { return strings.ReplaceAll(s, "**", "") }

func printChecks(w io.Writer, r *lab.Results) {
	if len(r.Checks) == 0 {
		return
	}
	fmt.Fprintln(w, "\nwhat counterd promises of its speed")
	checksTable(r).text(w)
}

func checksTable(r *lab.Results) table {
	t := table{{"", "ratio", "asked", ""}}
	for _, c := range r.Checks {
		t = append(t, []string{c.Title, c.Ratio.Format("%.2f"), c.Words(), outcome(c)})
	}
	return t
}

func outcome(c lab.Check) string {
	switch {
	case c.Why != "":
		return c.Why
	case !c.Pass:
		return "FAIL"
	case c.AtMost && c.Ratio.Hi > c.Limit, !c.AtMost && c.Ratio.Lo < c.Limit:
		return "pass by the median; the interval reaches beyond"
	}
	return "pass"
}

func markdown(w *bytes.Buffer, r *lab.Results, charts map[string]bool) {
	fmt.Fprintf(w, "# Counting over HTTP: what an event loop is worth\n\n")
	intro(w, r)
	verdicts(w, r)
	chart(w, charts, "rps", "Requests per second by contender")
	checks(w, r)
	seedSection(w, r)
	pinnedSection(w, r, charts)
	decomposition(w, r, charts)
	connectionsSection(w, r, charts)
	section(w, r, "idle", charts, "memory", "Memory per idle connection", perConnColumn, peakColumn)
	fmt.Fprint(w, note(r, "idle", "Resident memory of the process; the kernel's own buffers come on top and are the same for all.\n\n"))
	section(w, r, "churn", charts, "", "", rpsColumn, cpuColumn, meanColumn, p99Column)
	loopAgainstGoroutines(w, r, "churn", "c=100")
	openSection(w, r, charts)
	section(w, r, "cores", charts, "", "", rpsColumn, cpuColumn, p99Column, peakColumn)
	if r.Environment.Cores < 4 {
		fmt.Fprint(w, note(r, "cores", "Here the client had to share them.\n\n"))
	}
	loopAgainstGoroutines(w, r, "cores", "two")
	section(w, r, "docker", charts, "", "", rpsColumn, meanColumn, maxColumn, cpuColumn, peakColumn)
	loopAgainstGoroutines(w, r, "docker", "c=100")
	absences(w, r)
	environment(w, r)
}

func intro(w io.Writer, r *lab.Results) {
	e := r.Environment
	fmt.Fprintf(w, "Run `%s` (%s): %s, %d cores%s, %s, %s.", r.Run, r.Mode, e.CPU, e.Cores, virtual(e), e.Kernel, e.Versions["go"])
	fmt.Fprintf(w, " %d measurements in %v.", len(r.Samples), r.Finished.Sub(r.Started).Round(time.Second))
	if err := r.Wrong(); err == nil {
		fmt.Fprint(w, agreement(r))
		fmt.Fprint(w, "\n\n")
	} else {
		fmt.Fprintf(w, "\n\n**This run must not be trusted:**\n\n```\n%v\n```\n\n", err)
	}
	if err := r.Failed(); err != nil {
		fmt.Fprintf(w, "**Not all went well. What is here was checked as always; what is missing, or has a round less:**\n\n```\n%v\n```\n\n", err)
	}
	if careful := disturbed(r); careful != "" {
		fmt.Fprintf(w, "**Careful: %s**\n\n", careful)
	}
	if met := clientErrors(r); met != "" {
		fmt.Fprintf(w, "**The client met errors, which took their time:**\n\n```\n%s\n```\n\n", met)
	}
	if r.Interrupted {
		fmt.Fprint(w, "**The run was stopped before its end; this is what was measured until then.**\n\n")
	}
	fmt.Fprint(w, "Figures are medians over the rounds. ± is the larger half of the interval: "+
		"95 % confidence with six rounds or more, else smallest to largest. "+
		"Ratios are taken inside each round. How it is measured: [bench/README.md](../../README.md).\n\n")
}

// counted is after how many measurements there was a count to compare.
func counted(r *lab.Results) int {
	n := 0
	for _, s := range r.Samples {
		if s.Counted >= 0 {
			n++
		}
	}
	return n
}

func agreement(r *lab.Results) string {
	switch n := counted(r); n {
	case 0:
		return ""
	case len(r.Samples):
		return " After each of them the server's count agreed with the client's."
	default:
		return fmt.Sprintf(" After each of the %d that have a count the server's agreed with the client's.", n)
	}
}

// disturbed says that the machine was not the lab's alone; empty: it was.
func disturbed(r *lab.Results) string {
	const tolerable = 0.05
	if others := r.Others(); others > tolerable {
		return fmt.Sprintf("others used %.0f %% of the machine while this was measured. The figures are rough.", 100*others)
	}
	return ""
}

// clientErrors lists the measurements whose client met broken connections or
// timeouts: the count was right, the rate may not be the server's.
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

func virtual(e lab.Environment) string {
	if e.Virtual {
		return " of a virtual machine"
	}
	return ""
}

func chart(w io.Writer, drawn map[string]bool, name, alt string) {
	if drawn[name] {
		fmt.Fprintf(w, "![%s](%s.svg)\n\n", alt, name)
	}
}

func verdicts(w io.Writer, r *lab.Results) {
	found := answers(r)
	if len(found) == 0 {
		return
	}
	scenario, _ := place(r)
	sc, _ := lab.ScenarioNamed(scenario)
	fmt.Fprintf(w, "## What was found\n\n%s. Above 1× in the first column is faster, below 1× in the second is cheaper.\n\n", sc.Title)
	t := table{{"question", "requests per second", "CPU per request"}}
	for _, a := range found {
		t = append(t, []string{
			fmt.Sprintf("%s: *%s* : *%s*", a.question.title, a.question.a, a.question.b),
			times(a.rps, a.rpsOrder), times(a.cpu, a.cpuOrder),
		})
	}
	t.markdown(w)
	fmt.Fprintf(w, "The same program against itself: %.1f %% apart in requests per second, %.1f %% in CPU (%s). "+
		"What isn't beyond that is called no difference.\n\n",
		100*r.Noise(lab.RPS), 100*r.Noise(lab.CPU), noiseWords(r))
}

func noiseWords(r *lab.Results) string {
	if len(r.Measured("noise", "again")) == 0 {
		return "assumed, this run has no calibration"
	}
	return "measured in this run"
}

func checks(w io.Writer, r *lab.Results) {
	if len(r.Checks) == 0 {
		return
	}
	fmt.Fprint(w, "## What counterd promises of its speed\n\n")
	checksTable(r).markdown(w)
}

// The seed's own figures, from its README: PostgreSQL 9.6, a laptop with macOS
// 10.13 and a 2.2 GHz Core i7.
const seedFigures = "  default asyncio loop: 2349.50 requests/s, latency 42.58ms mean, 151.98ms longest\n" +
	"  uvloop:               2808.89 requests/s, latency 91.17ms mean, 1.70s longest\n" +
	"  in Docker, default:   1518.05 requests/s, latency 65.78ms mean, 181.00ms longest\n" +
	"  in Docker, uvloop:    1673.51 requests/s, latency 193.20ms mean, 1.99s longest\n"

func seedSection(w io.Writer, r *lab.Results) {
	const scenario, point = "seed", "c=100"
	measured := r.Measured(scenario, point)
	if len(measured) == 0 {
		return
	}
	sc, _ := lab.ScenarioNamed(scenario)
	fmt.Fprintf(w, "## %s\n\n", sc.Title)
	fmt.Fprintf(w, "%s\n\n", lengths(r, scenario))
	contenderTable(r, scenario, point, rpsColumn, meanColumn, maxColumn, cpuColumn, backendColumn, peakColumn).markdown(w)
	loopAgainstGoroutines(w, r, scenario, point)
	fmt.Fprintf(w, "The seed's own figures, on its author's laptop (macOS, 2.2 GHz Core i7, PostgreSQL 9.6), so for the order of magnitude only:\n\n```\n%s```\n\n", seedFigures)
	fmt.Fprint(w, "<details><summary>wrk's own words, the round with the median (of two, the slower)</summary>\n\n")
	for _, c := range measured {
		if out := medianOutput(r, scenario, point, c.Name); out != "" {
			fmt.Fprintf(w, "**%s**\n\n```\n%s```\n\n", c.Title, out)
		}
	}
	fmt.Fprint(w, "</details>\n\n")
}

// lengths says how long each measurement of a scenario took.
func lengths(r *lab.Results, scenario string) string {
	for _, s := range r.Plan {
		if s.Scenario == scenario {
			return fmt.Sprintf("%g s each, %s. The seed's command has 30 s.", s.Seconds, rounds(s.Rounds))
		}
	}
	return ""
}

func medianOutput(r *lab.Results, scenario, point, name string) string {
	var samples []lab.Sample
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Point == point && s.Contender == name && s.Invalid == "" {
			samples = append(samples, s)
		}
	}
	if len(samples) == 0 {
		return ""
	}
	slices.SortFunc(samples, func(a, b lab.Sample) int { return cmp.Compare(a.Client.RPS, b.Client.RPS) })
	return samples[(len(samples)-1)/2].Output
}

func pinnedSection(w io.Writer, r *lab.Results, charts map[string]bool) {
	const scenario, point = "pinned", "c=100"
	if len(r.Measured(scenario, point)) == 0 {
		return
	}
	section(w, r, scenario, charts, "cpu", "CPU per request, program and kernel",
		rpsColumn, cpuColumn, kernelColumn, backendColumn, clientColumn, medianColumn, p99Column, switchColumn, syscallColumn, peakColumn)
	fmt.Fprint(w, "\\* another protocol and another load generator: a scale, not a rival. "+
		"Where the client's core is near 100 %, it is the client that limits the requests.\n\n")
	ranking(w, r, scenario, point)
	chart(w, charts, "durable", "Durable requests per second")
}

// ranking names the places of the HTTP contenders; overlapping intervals share one.
func ranking(w io.Writer, r *lab.Results, scenario, point string) {
	named := map[string]stat.Interval{}
	for _, c := range r.Measured(scenario, point) {
		if c.Protocol == "HTTP" {
			named[c.Name] = r.Summary(lab.At{Scenario: scenario, Point: point, Contender: c.Name}, lab.RPS)
		}
	}
	if len(named) < 2 {
		return
	}
	names, places := stat.Rank(named)
	var groups []string
	for i, name := range names {
		if i > 0 && places[i] == places[i-1] {
			groups[len(groups)-1] += " = " + name
		} else {
			groups = append(groups, fmt.Sprintf("%d. %s", places[i], name))
		}
	}
	fmt.Fprintf(w, "In order of requests per second; = joins those whose intervals overlap: %s.\n\n", strings.Join(groups, ", "))
}

func section(w io.Writer, r *lab.Results, scenario string, charts map[string]bool, name, alt string, columns ...column) {
	sc, _ := lab.ScenarioNamed(scenario)
	var body bytes.Buffer
	for _, p := range sc.Points {
		t := contenderTable(r, scenario, p.Name, columns...)
		if len(t) < 2 {
			continue
		}
		if len(sc.Points) > 1 {
			fmt.Fprintf(&body, "**%s**\n\n", p.Name)
		}
		t.markdown(&body)
	}
	if body.Len() == 0 {
		return
	}
	fmt.Fprintf(w, "## %s\n\n", sc.Title)
	if name != "" {
		chart(w, charts, name, alt)
	}
	_, _ = body.WriteTo(w)
}

func note(r *lab.Results, scenario, text string) string {
	sc, _ := lab.ScenarioNamed(scenario)
	if len(r.Measured(scenario, sc.Points[0].Name)) == 0 {
		return ""
	}
	return text
}

func connectionsSection(w io.Writer, r *lab.Results, charts map[string]bool) {
	if len(pointsOf(r, "connections")) == 0 {
		return
	}
	sc, _ := lab.ScenarioNamed("connections")
	fmt.Fprintf(w, "## %s\n\n", sc.Title)
	chart(w, charts, "connections", "CPU per request against connections")
	for _, c := range []column{rpsColumn, cpuColumn, p99Column} {
		connectionsTable(r, c).markdown(w)
	}
}

// atConnections is where a contender was measured with so many connections: a
// run may have 100 of them in the pinned scenario, which is the same.
func atConnections(r *lab.Results, p lab.Point, contender string) lab.At {
	at := lab.At{Scenario: "connections", Point: p.Name, Contender: contender}
	if len(r.Values(at, lab.RPS)) == 0 && p.Connections == 100 {
		at.Scenario = "pinned"
	}
	return at
}

// connectionsTable has a row per contender that was measured at more than one
// number of connections.
func connectionsTable(r *lab.Results, c column) table {
	sc, _ := lab.ScenarioNamed("connections")
	head := []string{c.head}
	for _, p := range sc.Points {
		head = append(head, thousands(float64(p.Connections)))
	}
	t := table{head}
	for _, about := range r.Contenders {
		row, found := []string{label(r, about.Name)}, 0
		for _, p := range sc.Points {
			i := r.Summary(atConnections(r, p, about.Name), c.metric)
			row = append(row, c.write(i))
			if i.N > 0 {
				found++
			}
		}
		if found > 1 {
			t = append(t, row)
		}
	}
	return t
}

func pointsOf(r *lab.Results, scenario string) []string {
	sc, _ := lab.ScenarioNamed(scenario)
	var names []string
	for _, p := range sc.Points {
		if len(r.Measured(scenario, p.Name)) > 0 {
			names = append(names, p.Name)
		}
	}
	return names
}

func openSection(w io.Writer, r *lab.Results, charts map[string]bool) {
	points := pointsOf(r, "open")
	if len(points) == 0 {
		return
	}
	sc, _ := lab.ScenarioNamed("open")
	fmt.Fprintf(w, "## %s\n\n", sc.Title)
	fmt.Fprint(w, "Requests fall due at even intervals, at a share of each contender's own maximum, over 100 connections. "+
		"Latency runs from the moment a request was due, so a pause of the server is charged with all that fell due meanwhile.\n\n")
	chart(w, charts, "latency", "Latency percentiles at half of the maximum")
	for _, p := range points {
		fmt.Fprintf(w, "**%s of its maximum**\n\n", p)
		contenderTable(r, "open", p, rpsColumn, medianColumn, p99Column, p999Column, maxColumn, lagColumn, cpuColumn).markdown(w)
	}
}

func absences(w io.Writer, r *lab.Results) {
	if len(r.NotMeasured) == 0 {
		return
	}
	fmt.Fprint(w, "## Not measured\n\n")
	t := table{{"what", "why"}}
	for _, a := range r.NotMeasured {
		what := a.Contender
		if a.Scenario != "" {
			what = strings.TrimSpace(strings.Join([]string{a.Scenario, a.Point, a.Contender}, " "))
		}
		first, _, _ := strings.Cut(a.Why, "\n")
		t = append(t, []string{what, first})
	}
	t.words(w)
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
	add("others used before the start", fmt.Sprintf("%.0f %% of the machine", 100*e.Busy))
	add("others used while measuring", shares(r, func(s lab.Sample) float64 { return s.Server.Others }))
	add("taken by the hypervisor", shares(r, func(s lab.Sample) float64 { return s.Server.Stolen }))
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
	add("order of turns", fmt.Sprintf("`--seed %d`", r.Seed))
	t.words(w)
}

// shares words the median and the worst over all turns.
func shares(r *lab.Results, get func(lab.Sample) float64) string {
	var all []float64
	for _, s := range r.Samples {
		all = append(all, 100*get(s))
	}
	if len(all) == 0 {
		return "–"
	}
	slices.Sort(all)
	return fmt.Sprintf("%.1f %% of the machine in the median turn, %.0f %% in the worst", all[len(all)/2], all[len(all)-1])
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
