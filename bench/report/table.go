package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// column of a table: a metric and how it is written.
type column struct {
	head   string
	metric lab.Metric
	write  func(stat.Interval) string
}

var (
	rpsColumn     = column{"requests/s", lab.RPS, counts}
	cpuColumn     = column{"CPU µs/request", lab.CPU, decimals}
	backendColumn = column{"the database's CPU", lab.Database, center}
	kernelColumn  = column{"in the kernel", lab.Kernel, center}
	clientColumn  = column{"client's core, %", lab.ClientBusy, center}
	meanColumn    = column{"latency, mean", lab.MeanLatency, duration}
	medianColumn  = column{"median", lab.P50, duration}
	p99Column     = column{"99 %", lab.P99, duration}
	p999Column    = column{"99.9 %", lab.P999, duration}
	lagColumn     = column{"sender late, 99 %", lab.Lag, duration}
	maxColumn     = column{"longest", lab.MaxLatency, duration}
	peakColumn    = column{"peak memory, MiB", lab.Peak, center}
	switchColumn  = column{"switches/request", lab.Switches, center}
	syscallColumn = column{"system calls/request", lab.Syscalls, center}
	perConnColumn = column{"bytes per connection", lab.PerConn, counts}
)

// columnsOf a scenario's table.
func columnsOf(scenario string) []column {
	switch scenario {
	case "idle":
		return []column{perConnColumn, peakColumn}
	case "open":
		return []column{rpsColumn, medianColumn, p99Column, p999Column, maxColumn, lagColumn, cpuColumn}
	case "pinned":
		return []column{rpsColumn, cpuColumn, kernelColumn, p99Column, peakColumn, switchColumn, syscallColumn, clientColumn}
	}
	return []column{rpsColumn, meanColumn, maxColumn, cpuColumn, backendColumn, peakColumn}
}

// table is cells of text; the first row is the head.
type table [][]string

// contenderTable has a row per contender measured there, the first metric's
// best on top, and beside each the share of HTTP's rules that it keeps.
func contenderTable(r *lab.Results, scenario, point string, columns ...column) table {
	columns = present(r, scenario, point, columns)
	if len(columns) == 0 {
		return nil
	}
	head := []string{"contender", "HTTP rules kept"}
	for _, c := range columns {
		head = append(head, c.head)
	}
	t := table{head}
	contenders := r.Measured(scenario, point)
	lead := func(a lab.About) float64 {
		i := r.Summary(lab.At{Scenario: scenario, Point: point, Contender: a.Name}, columns[0].metric)
		if columns[0].metric.Name == lab.PerConn.Name {
			return i.Center
		}
		return -i.Center
	}
	slices.SortStableFunc(contenders, func(a, b lab.About) int { return cmp.Compare(lead(a), lead(b)) })
	for _, about := range contenders {
		row := []string{label(about), score(about)}
		for _, c := range columns {
			row = append(row, c.write(r.Summary(lab.At{Scenario: scenario, Point: point, Contender: about.Name}, c.metric)))
		}
		t = append(t, row)
	}
	return t
}

// score words the share of HTTP's rules that a contender keeps.
func score(a lab.About) string {
	switch {
	case a.Rules > 0:
		return fmt.Sprintf("%d of %d", a.Kept, a.Rules)
	case a.Unscored != "":
		return "not known"
	}
	return "–"
}

// present drops the columns that no contender fills.
func present(r *lab.Results, scenario, point string, columns []column) []column {
	var kept []column
	for _, c := range columns {
		filled := false
		for _, a := range r.Measured(scenario, point) {
			at := lab.At{Scenario: scenario, Point: point, Contender: a.Name}
			filled = filled || r.Summary(at, c.metric).N > 0
		}
		if filled {
			kept = append(kept, c)
		}
	}
	return kept
}

// label is a contender's title, marked when its protocol isn't HTTP.
func label(a lab.About) string {
	if a.Protocol != "HTTP" && a.Protocol != "" {
		return a.Title + " *"
	}
	return a.Title
}

// markdown writes a table of figures: all but the first column to the right.
func (t table) markdown(w io.Writer) { t.aligned(w, "|--:") }

// words writes a table of text.
func (t table) words(w io.Writer) { t.aligned(w, "|---") }

func (t table) aligned(w io.Writer, mark string) {
	for i, row := range t {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---%s|\n", strings.Repeat(mark, len(row)-1))
		}
	}
	fmt.Fprintln(w)
}

// plain is the table without Markdown's marks.
func (t table) plain() table {
	plain := make(table, len(t))
	for i, row := range t {
		for _, cell := range row {
			plain[i] = append(plain[i], strings.ReplaceAll(cell, "**", ""))
		}
	}
	return plain
}

func (t table) text(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	wide := 0
	for _, row := range t {
		wide = max(wide, utf8.RuneCountInString(row[0]))
	}
	for _, row := range t {
		fill := strings.Repeat(" ", wide-utf8.RuneCountInString(row[0]))
		fmt.Fprintf(tw, "%s%s\t%s\t\n", row[0], fill, strings.Join(row[1:], "\t"))
	}
	tw.Flush()
}

// counts writes whole numbers: 152,310 (±1.2 %).
func counts(i stat.Interval) string {
	if i.N == 0 {
		return "–"
	}
	return thousands(i.Center) + spread(i)
}

// decimals writes three significant digits.
func decimals(i stat.Interval) string {
	if i.N == 0 {
		return "–"
	}
	return significant(i.Center) + spread(i)
}

// center writes the median alone.
func center(i stat.Interval) string {
	if i.N == 0 {
		return "–"
	}
	return significant(i.Center)
}

// duration writes microseconds in the unit that fits.
func duration(i stat.Interval) string {
	if i.N == 0 {
		return "–"
	}
	return microseconds(i.Center)
}

func microseconds(us float64) string {
	switch {
	case us >= 1e6:
		return significant(us/1e6) + " s"
	case us >= 1e3:
		return significant(us/1e3) + " ms"
	}
	return significant(us) + " µs"
}

// spread is the larger half of the interval, as a share of the median.
func spread(i stat.Interval) string {
	if i.N < 2 || i.Center == 0 {
		return ""
	}
	half := max(i.Hi-i.Center, i.Center-i.Lo) / i.Center
	return fmt.Sprintf(" ±%.0f %%", 100*half)
}

func significant(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 1000:
		return thousands(v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.01:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
