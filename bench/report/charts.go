package report

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

const chartWidth = 800.0

// charts are what a report has at most, by the names of their files.
var charts = []struct {
	name string
	draw func(*lab.Results) string
}{
	{"headline", headlineChart},
	{"loop", loopChart},
	{"seed", seedChart},
	{"latency", latencyChart},
	{"memory", memoryChart},
}

// drawCharts draws what the results allow, and says what that was.
func drawCharts(r *lab.Results, dir string) (map[string]bool, error) {
	drawn := map[string]bool{}
	for _, c := range charts {
		path := filepath.Join(dir, c.name+".svg")
		picture := c.draw(r)
		if picture == "" {
			_ = os.Remove(path) // of an earlier report of the same run
			continue
		}
		if err := os.WriteFile(path, []byte(picture), 0o644); err != nil {
			return nil, err
		}
		drawn[c.name] = true
	}
	return drawn, nil
}

// bar is one row of a chart of horizontal bars.
type bar struct {
	label    string
	interval stat.Interval
	note     string // behind the value
	color    string
	apart    bool // begins a group
}

// colorOf gives counterd's engines their colours, and others grey: the eye
// finds the three first.
func colorOf(name string) string {
	switch engine, _, _ := strings.Cut(name, "-"); engine {
	case "gnet":
		return blue
	case "goroutine":
		return sky
	case "std":
		return orange
	}
	return grey
}

// groupGap is the space above a row that begins a group.
const groupGap = 10.0

func labelWidth(labels []string) float64 {
	widest := 0.0
	for _, l := range labels {
		widest = max(widest, textWidth(l))
	}
	return edge + widest + 8
}

func barChart(title, under, unit string, bars []bar) string {
	if len(bars) < 2 {
		return ""
	}
	var labels []string
	most, height := 0.0, heading
	for _, b := range bars {
		labels = append(labels, b.label)
		most = max(most, b.interval.Center, b.interval.Hi)
		height += row
		if b.apart {
			height += groupGap
		}
	}
	bottom := height + 2
	d := &drawing{width: chartWidth, height: bottom + 44}
	s := scale{from: 0, to: most, left: labelWidth(labels), right: chartWidth - edge - 70 - widestNote(bars)}
	for _, v := range roundTicks(most, min(6, (s.right-s.left)/80)) {
		d.line(s.at(v), heading, s.at(v), bottom, 1, rule)
		d.text(s.at(v), bottom+12, atMiddle, faint, significant(v))
	}
	d.text(s.left, bottom+32, atStart, faint, unit)
	y := heading + row/2
	for _, b := range bars {
		if b.apart {
			y += groupGap
		}
		d.text(s.left-8, y, atEnd, ink, b.label)
		d.rect(s.left, y-8, s.at(b.interval.Center)-s.left, 16, b.color)
		end := s.at(b.interval.Center)
		if b.interval.N > 1 {
			d.whisker(s.at(b.interval.Lo), s.at(b.interval.Hi), y, ink)
			end = max(end, s.at(b.interval.Hi))
		}
		d.text(end+8, y, atStart, ink, significant(b.interval.Center))
		if b.note != "" {
			d.text(chartWidth-edge, y, atEnd, faint, b.note)
		}
		y += row
	}
	return d.String(title, under)
}

// barsOf has a bar for each of the contenders that was measured there.
func barsOf(r *lab.Results, scenario, point string, m lab.Metric, names ...string) []bar {
	var bars []bar
	for _, name := range names {
		if i := r.Summary(lab.At{Scenario: scenario, Point: point, Contender: name}, m); i.N > 0 {
			bars = append(bars, bar{label: r.About(name).Title, note: rules(r.About(name)), interval: i, color: colorOf(name)})
		}
	}
	return bars
}

// rules words a score beside a bar.
func rules(a lab.About) string {
	if a.Rules == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d rules", a.Kept, a.Rules)
}

func widestNote(bars []bar) float64 {
	widest := 0.0
	for _, b := range bars {
		widest = max(widest, textWidth(b.note))
	}
	return widest
}

// place is where the headline is measured: pinned, where a run has it.
func place(r *lab.Results) (scenario, point string) {
	for _, s := range []string{"pinned", "seed", "docker"} {
		if len(r.Measured(s, "c=100")) > 0 {
			return s, "c=100"
		}
	}
	return "", ""
}

// headlineChart shows ratios, which are of duels: absolute figures of programs that
// were measured at other times would say something else.
func headlineChart(r *lab.Results) string {
	scenario, point := place(r)
	bars := beside(r, scenario, point, "gnet-mem", "std-mem", "goroutine-mem", "epoll")
	durable := beside(r, scenario, point, "gnet-file", "goroutine-file", "epoll-file")
	if len(durable) > 0 && len(bars) > 0 {
		durable[0].apart = true
	}
	bars = append(bars, durable...)
	return barChart("Requests per second", capital(lab.Where(scenario, point))+pinnedNote(scenario)+". Right: the share of HTTP's rules that each keeps.",
		"requests per second, gnet beside it = 1; lines: 95 % of the median", bars)
}

// beside has a bar for each that met one in a duel, as a multiple of that one, and one
// for itself in front of the last.
func beside(r *lab.Results, scenario, point, one string, others ...string) []bar {
	about := func(name string) bar {
		return bar{label: r.About(name).Title, note: rules(r.About(name)), color: colorOf(name)}
	}
	var bars []bar
	for _, name := range others {
		// The claim is one's over the other's, or the other's over one's.
		b := about(name)
		if d, ok := r.Duel(scenario, point, one, name); ok && d.NoClaim == "" {
			b.interval = inverse(d.RPS)
		} else if d, ok := r.Duel(scenario, point, name, one); ok && d.NoClaim == "" {
			b.interval = d.RPS
		} else {
			continue
		}
		bars = append(bars, b)
	}
	if len(bars) == 0 {
		return nil
	}
	itself := about(one)
	itself.interval = stat.Interval{Center: 1, Lo: 1, Hi: 1, N: 1}
	return slices.Insert(bars, len(bars)-1, itself)
}

func pinnedNote(scenario string) string {
	if scenario == "pinned" {
		return ", server on one core, client on another"
	}
	return ""
}

// intervalNote says what the whiskers are.
func intervalNote(bars []bar) string {
	n := 0
	for _, b := range bars {
		n = max(n, b.interval.N)
	}
	switch {
	case n < 2:
		return ""
	case bars[0].interval.Kind == stat.Confidence95:
		return "; lines: 95 % of the median"
	}
	return fmt.Sprintf("; lines: smallest and largest of %d", n)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// loopChart shows the event loop against goroutines wherever they met.
func loopChart(r *lab.Results) string {
	type point struct {
		label    string
		rps, cpu stat.Interval // of the loop over the goroutine; CPU the other way round
	}
	var points []point
	var labels []string
	low, high := 0.95, 1.05
	for _, d := range inOrder(r.Duels) {
		kind, ok := loopDuels[[2]string{d.A, d.B}]
		if !ok || d.Invalid != "" || d.NoClaim != "" {
			continue
		}
		p := point{lab.Where(d.Scenario, d.Point) + kind, d.RPS, inverse(d.CPU)}
		points = append(points, p)
		labels = append(labels, p.label)
		low, high = min(low, p.rps.Lo, p.cpu.Lo), max(high, p.rps.Hi, p.cpu.Hi)
	}
	if len(points) < 2 {
		return ""
	}
	bottom := heading + 22 + row*float64(len(points))
	d := &drawing{width: chartWidth, height: bottom + 48}
	s := scale{from: low * 0.97, to: high * 1.03, left: labelWidth(labels), right: chartWidth - edge - 10, log: true}
	d.rect(s.left, heading+18, s.at(1)-s.left, bottom-heading-18, "#faf3ee")
	d.text(s.at(1)-8, heading+6, atEnd, red, "← goroutines")
	d.text(s.at(1)+8, heading+6, atStart, blue, "event loop →")
	for _, v := range ratioTicks(s.from, s.to) {
		d.line(s.at(v), heading+18, s.at(v), bottom, 1, rule)
		d.text(s.at(v), bottom+12, atMiddle, faint, fmt.Sprintf("%g×", v))
	}
	d.line(s.at(1), heading+18, s.at(1), bottom, 1.5, faint)
	y := heading + 22 + row/2
	for _, p := range points {
		d.text(s.left-8, y, atEnd, ink, p.label)
		d.whisker(s.at(p.rps.Lo), s.at(p.rps.Hi), y-4, blue)
		d.dot(s.at(p.rps.Center), y-4, blue, true)
		d.whisker(s.at(p.cpu.Lo), s.at(p.cpu.Hi), y+4, green)
		d.dot(s.at(p.cpu.Center), y+4, green, false)
		y += row
	}
	d.dot(s.left+6, bottom+34, blue, true)
	d.text(s.left+16, bottom+34, atStart, faint, "requests per second")
	d.dot(s.left+170, bottom+34, green, false)
	d.text(s.left+180, bottom+34, atStart, faint, "requests per second of CPU")
	return d.String("Event loop or goroutine per connection?",
		"The loop's figure over the goroutines'; lines: 95 % of the median. Right of 1× the loop is better.")
}

// loopDuels are the pairs that differ in the I/O model alone, and what is said
// behind the place.
var loopDuels = map[[2]string]string{
	{"gnet-mem", "goroutine-mem"}:           "",
	{"gnet-file", "goroutine-file"}:         " (durable)",
	{"hertz-netpoll", "hertz-net"}:          " (hertz)",
	{"stripped-gnet", "stripped-goroutine"}: " (stripped)",
}

func inverse(i stat.Interval) stat.Interval {
	i.Center, i.Lo, i.Hi = 1/i.Center, 1/i.Hi, 1/i.Lo
	return i
}

func ratioTicks(low, high float64) []float64 {
	all := []float64{0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50}
	if high/low < 2.2 {
		all = []float64{0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2}
	}
	return slices.DeleteFunc(all, func(v float64) bool { return v < low || v > high })
}

func seedChart(r *lab.Results) string {
	var bars []bar
	for _, s := range []struct{ name, suffix string }{{"seed", ""}, {"docker", ", in a container"}} {
		group := barsOf(r, s.name, "c=100", lab.RPS, seedNames...)
		if len(group) > 0 && len(bars) > 0 {
			group[0].apart = true
		}
		for i := range group {
			group[i].label += s.suffix
		}
		bars = append(bars, group...)
	}
	if !slices.ContainsFunc(bars, func(b bar) bool { return strings.HasPrefix(b.label, "the seed") }) {
		return ""
	}
	return barChart("The seed's experiment", "wrk -t4 -c100, nothing pinned: its stack, and counterd on the same PostgreSQL and on a durable file.",
		"requests per second on this machine", bars)
}

// seedNames are the rows of the seed's table.
var seedNames = []string{"seed-asyncio", "seed-uvloop", "std-pg", "goroutine-pg", "gnet-pg", "std-file", "goroutine-file", "gnet-file"}

func memoryChart(r *lab.Results) string {
	var names []string
	for _, c := range r.Measured("idle", "c=10000") {
		names = append(names, c.Name)
	}
	bars := barsOf(r, "idle", "c=10000", lab.PerConn, names...)
	slices.SortStableFunc(bars, func(a, b bar) int { return int(math.Copysign(1, a.interval.Center-b.interval.Center)) })
	return barChart("Memory of an idle connection", "10,000 keep-alive connections that each made one request.",
		"bytes of resident memory per connection"+intervalNote(bars), bars)
}

// latencyChart shows the highest rate that most contenders were measured at.
func latencyChart(r *lab.Results) string {
	point, most := "", 0
	sc, _ := lab.ScenarioNamed("open")
	for _, p := range sc.Points {
		if n := len(r.Measured("open", p.Name)); p.Rate > 0 && n >= most {
			point, most = p.Name, n
		}
	}
	if most < 2 {
		return ""
	}
	type span struct {
		label           string
		p50, p99, worst float64
	}
	var spans []span
	var labels []string
	low, high := math.Inf(1), 0.0
	for _, c := range r.Measured("open", point) {
		at := lab.At{Scenario: "open", Point: point, Contender: c.Name}
		s := span{c.Title, r.Summary(at, lab.P50).Center, r.Summary(at, lab.P99).Center, r.Summary(at, lab.P999).Center}
		spans = append(spans, s)
		labels = append(labels, s.label)
		low, high = min(low, s.p50), max(high, s.worst)
	}
	slices.SortStableFunc(spans, func(a, b span) int { return int(math.Copysign(1, a.p99-b.p99)) })
	bottom := heading + row*float64(len(spans))
	d := &drawing{width: chartWidth, height: bottom + 48}
	s := scale{from: low * 0.8, to: high * 1.25, left: labelWidth(labels), right: chartWidth - edge - 10, log: true}
	for _, us := range []float64{10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6} {
		if us > s.from && us < s.to {
			d.line(s.at(us), heading, s.at(us), bottom, 1, rule)
			d.text(s.at(us), bottom+12, atMiddle, faint, tick(us))
		}
	}
	y := heading + row/2
	for _, p := range spans {
		d.text(s.left-8, y, atEnd, ink, p.label)
		d.line(s.at(p.p50), y, s.at(p.worst), y, 2, grey)
		d.dot(s.at(p.worst), y, red, true)
		d.dot(s.at(p.p99), y, orange, true)
		d.dot(s.at(p.p50), y, blue, true)
		y += row
	}
	for i, l := range []struct{ words, color string }{{"median", blue}, {"99 %", orange}, {"99.9 %", red}} {
		x := s.left + 6 + 90*float64(i)
		d.dot(x, bottom+34, l.color, true)
		d.text(x+10, bottom+34, atStart, faint, l.words)
	}
	return d.String("Latency at the same rate: "+lab.Where("open", point),
		"100 connections, server on one core; from the moment a request was due, so that a pause is charged in full.")
}

// tick writes a round number of microseconds.
func tick(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%g s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%g ms", us/1e3)
	}
	return fmt.Sprintf("%g µs", us)
}
