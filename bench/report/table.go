package report

import (
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

// table is cells of text; the first row is the head.
type table [][]string

// contenderTable has a row per contender measured there, the first metric's
// best on top.
func contenderTable(r *lab.Results, scenario, point string, columns ...column) table {
	columns = present(r, scenario, point, columns)
	head := []string{"contender"}
	for _, c := range columns {
		head = append(head, c.head)
	}
	t := table{head}
	if len(columns) == 0 {
		return t
	}
	lead := map[string]stat.Interval{}
	for _, c := range r.Measured(scenario, point) {
		lead[c.Name] = r.Summary(lab.At{Scenario: scenario, Point: point, Contender: c.Name}, columns[0].metric)
	}
	names, _ := stat.Rank(lead)
	if columns[0].metric.Name == lab.PerConn.Name {
		slices.Reverse(names) // less is better
	}
	for _, name := range names {
		row := []string{label(r, name)}
		for _, c := range columns {
			row = append(row, c.write(r.Summary(lab.At{Scenario: scenario, Point: point, Contender: name}, c.metric)))
		}
		t = append(t, row)
	}
	return t
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

// label is a contender's title, with its protocol when that isn't HTTP.
func label(r *lab.Results, name string) string {
	for _, c := range r.Contenders {
		if c.Name == name && c.Protocol != "HTTP" {
			return c.Title + " *"
		}
	}
	return r.Title(name)
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
