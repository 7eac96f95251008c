package report

import (
	"fmt"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// question asks how one contender stands to another.
type question struct {
	title string
	a, b  string
	// with the database: CPU is then that of both.
	database bool
}

var questions = []question{
	{title: "Event loop against net/http", a: "gnet-mem", b: "std-mem"},
	{title: "… of it the HTTP stack (same goroutine per connection)", a: "goroutine-mem", b: "std-mem"},
	{title: "… of it the event loop (same HTTP stack)", a: "gnet-mem", b: "goroutine-mem"},
	{title: "Durable against memory, event loop", a: "gnet-file", b: "gnet-mem"},
	{title: "Durable: event loop against goroutines", a: "gnet-file", b: "goroutine-file"},
	{title: "On PostgreSQL, against the seed's stack", a: "gnet-pg", b: "seed-asyncio", database: true},
	{title: "On PostgreSQL, against the seed's stack on uvloop", a: "gnet-pg", b: "seed-uvloop", database: true},
	{title: "Durable file, against the seed's stack", a: "gnet-file", b: "seed-asyncio", database: true},
	{title: "Against fasthttp", a: "gnet-mem", b: "fasthttp"},
	{title: "Against nginx returning a constant", a: "gnet-mem", b: "nginx"},
	{title: "Against C that only looks for a blank line", a: "gnet-mem", b: "epoll"},
	{title: "Durable, against Redis with appendfsync always (another protocol)", a: "gnet-file", b: "redis-always"},
}

// place is where the questions are put: the pinned scenario, where a run has
// it, since two programs that share their cores disturb each other.
func place(r *lab.Results) (scenario, point string) {
	for _, s := range []string{"pinned", "seed", "docker"} {
		if len(r.Measured(s, "c=100")) > 0 {
			return s, "c=100"
		}
	}
	return "", ""
}

// answer to a question in one metric.
type answer struct {
	question question
	rps, cpu stat.Interval
	rpsOrder stat.Order
	cpuOrder stat.Order
}

func answers(r *lab.Results) []answer {
	scenario, point := place(r)
	var found []answer
	for _, q := range questions {
		a, b := lab.At{Scenario: scenario, Point: point, Contender: q.a}, lab.At{Scenario: scenario, Point: point, Contender: q.b}
		cpu := lab.CPU
		if q.database {
			cpu = lab.AllCPU
		}
		rps := r.Ratio(a, b, lab.RPS)
		if rps.N == 0 {
			continue
		}
		cost := r.Ratio(a, b, cpu)
		found = append(found, answer{
			question: q,
			rps:      rps, rpsOrder: stat.Judge(rps, r.Noise(lab.RPS)),
			cpu: cost, cpuOrder: stat.Judge(cost, r.Noise(lab.CPU)),
		})
	}
	return found
}

// times words a ratio, or the refusal to give one.
func times(ratio stat.Interval, order stat.Order) string {
	switch order {
	case stat.Unmeasured:
		return "–"
	case stat.TooFew:
		return fmt.Sprintf("%s× (%s: no claim)", factor(ratio.Center), rounds(ratio.N))
	case stat.NoDifference:
		return fmt.Sprintf("no difference seen, %s× (%s–%s)", factor(ratio.Center), factor(ratio.Lo), factor(ratio.Hi))
	}
	return fmt.Sprintf("**%s×** (%s–%s)", factor(ratio.Center), factor(ratio.Lo), factor(ratio.Hi))
}

// factor writes as many places as tell two factors apart.
func factor(v float64) string {
	switch {
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func rounds(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", n)
}
