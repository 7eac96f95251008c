package report

import (
	"fmt"
	"io"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// setting is one place where all three engines were measured.
type setting struct{ name, scenario, point string }

var settings = []setting{
	{"1 connection", "connections", "c=1"},
	{"10 connections", "connections", "c=10"},
	{"100 connections", "pinned", "c=100"},
	{"1,000 connections", "connections", "c=1000"},
	{"10,000 connections", "connections", "c=10000"},
	{"100 connections, 4 deep", "pipelined", "depth=4"},
	{"100 connections, 16 deep", "pipelined", "depth=16"},
	{"100 connections, 64 deep", "pipelined", "depth=64"},
}

// decomposition goes from net/http to the event loop in two steps: first the
// HTTP stack changes and the goroutine per connection stays, then the I/O
// model changes and the HTTP stack stays.
func decomposition(w io.Writer, r *lab.Results, charts map[string]bool) {
	t := table{{"server CPU per request", "net/http → own HTTP stack", "goroutines → event loop", "both"}}
	var pays, even, costs []string
	for _, s := range settings {
		at := func(c string) lab.At { return lab.At{Scenario: s.scenario, Point: s.point, Contender: c} }
		stack := r.Ratio(at("goroutine-mem"), at("std-mem"), lab.CPU)
		loop := r.Ratio(at("gnet-mem"), at("goroutine-mem"), lab.CPU)
		both := r.Ratio(at("gnet-mem"), at("std-mem"), lab.CPU)
		if stack.N == 0 || loop.N == 0 {
			continue
		}
		noise := r.Noise(lab.CPU)
		t = append(t, []string{
			s.name,
			times(stack, stat.Judge(stack, noise)),
			times(loop, stat.Judge(loop, noise)),
			times(both, stat.Judge(both, noise)),
		})
		switch stat.Judge(loop, noise) {
		case stat.Lower:
			pays = append(pays, s.name)
		case stat.Higher:
			costs = append(costs, s.name)
		case stat.NoDifference:
			even = append(even, s.name)
		}
	}
	if len(t) < 2 {
		return
	}
	fmt.Fprint(w, "## Where the difference comes from\n\n"+
		"`std` is net/http. `goroutine` has counterd's own HTTP stack and still a goroutine per connection. "+
		"`gnet` has the same stack on an event loop. Below 1× is cheaper.\n\n")
	t.markdown(w)
	chart(w, charts, "decomposition", "CPU per request of the three engines")
	sentence(w, "The event loop costs less CPU than a goroutine per connection at: %s.\n\n", pays)
	sentence(w, "No difference was seen at: %s.\n\n", even)
	sentence(w, "It costs more at: %s.\n\n", costs)
}

func sentence(w io.Writer, format string, names []string) {
	if len(names) == 0 {
		return
	}
	list := names[0]
	for _, n := range names[1:] {
		list += "; " + n
	}
	fmt.Fprintf(w, format, list)
}

// loopAgainstGoroutines answers the question of the report's title below a table.
func loopAgainstGoroutines(w io.Writer, r *lab.Results, scenario, point string) {
	at := func(c string) lab.At { return lab.At{Scenario: scenario, Point: point, Contender: c} }
	rps := r.Ratio(at("gnet-mem"), at("goroutine-mem"), lab.RPS)
	cpu := r.Ratio(at("gnet-mem"), at("goroutine-mem"), lab.CPU)
	if rps.N == 0 {
		return
	}
	fmt.Fprintf(w, "*gnet-mem* : *goroutine-mem* here: requests per second %s; CPU per request %s.\n\n",
		times(rps, stat.Judge(rps, r.Noise(lab.RPS))), times(cpu, stat.Judge(cpu, r.Noise(lab.CPU))))
}
