package lab

import (
	"fmt"

	"github.com/counterd/counterd/bench/stat"
)

// Check is one thing that counterd promises of its speed: the ratio of a duel
// and a limit to it.
type Check struct {
	Title string        `json:"title"`
	Ratio stat.Interval `json:"ratio"`
	Limit float64       `json:"limit"`
	// AtMost: the ratio must not be above the limit; else not below it.
	AtMost bool   `json:"at_most,omitempty"`
	Pass   bool   `json:"pass"`
	Why    string `json:"why,omitempty"` // it could not be judged
}

// Words says what the limit asks for.
func (c Check) Words() string {
	if c.AtMost {
		return fmt.Sprintf("at most %g", c.Limit)
	}
	return fmt.Sprintf("at least %g", c.Limit)
}

// promise is what a duel must show.
type promise struct {
	title                 string
	scenario, point, a, b string
	ratio                 func(Duel) stat.Interval
	limit                 float64
	atMost                bool
}

// idleLimit in bytes of resident memory per idle connection.
const idleLimit = 1280

var promises = []promise{
	{"pinned: CPU per request, gnet in memory : C on epoll", "pinned", "c=100", "gnet-mem", "epoll", RatioCPU, 1.20, true},
	{"pinned: CPU per request, gnet : std, both in memory", "pinned", "c=100", "gnet-mem", "std-mem", RatioCPU, 0.625, true},
	{"pinned: requests/s, gnet : C, both with a durable file", "pinned", "c=100", "gnet-file", "epoll-file", RatioRPS, 0.92, false},
	{"pinned: requests/s, gnet with a durable file : Redis with appendfsync always", "pinned", "c=100", "gnet-file", "redis-always", RatioRPS, 1.00, false},
	{"one connection: requests/s, gnet : C, both with a durable file", "connections", "c=1", "gnet-file", "epoll-file", RatioRPS, 0.95, false},
	{"unpinned: requests/s, gnet : C, both with a durable file", "seed", "c=100", "gnet-file", "epoll-file", RatioRPS, 0.88, false},
	{"sixteen deep: CPU per request, gnet in memory : C on epoll", "pipelined", "depth=16", "gnet-mem", "epoll", RatioCPU, 1.35, true},
	{"sixteen deep: CPU per request, gnet in memory : fasthttp", "pipelined", "depth=16", "gnet-mem", "fasthttp", RatioCPU, 1.00, true},
}

// checkPlan measures what the promises need.
func checkPlan() []Step {
	const pairs = 20
	plan := []Step{Duels("noise", pairs, self("gnet-mem")).At("pinned")}
	for _, p := range promises {
		plan = append(plan, Duels(p.scenario, pairs, [2]string{p.a, p.b}).At(p.point))
	}
	return append(plan, Turns("idle", "gnet-mem"))
}

// RunChecks judges the promises, in the modes that measure them.
func RunChecks(r *Results) []Check {
	if r.Mode != ModeCheck && r.Mode != ModeFull {
		return nil
	}
	var checks []Check
	for _, p := range promises {
		checks = append(checks, r.check(p))
	}
	return append(checks, idleCheck(r))
}

func (r *Results) check(p promise) Check {
	c := Check{Title: p.title, Limit: p.limit, AtMost: p.atMost, Why: "not measured"}
	d, ok := r.Duel(p.scenario, p.point, p.a, p.b)
	if !ok {
		return c
	}
	c.Ratio, c.Why = p.ratio(d), d.NoClaim
	if c.Why == "" {
		c.Pass = c.keeps(c.Ratio.Center)
	}
	return c
}

func (c Check) keeps(v float64) bool {
	if c.AtMost {
		return v <= c.Limit
	}
	return v >= c.Limit
}

// Sure reports whether the whole interval keeps the promise.
func (c Check) Sure() bool { return c.Pass && c.keeps(c.Ratio.Lo) && c.keeps(c.Ratio.Hi) }

func idleCheck(r *Results) Check {
	c := Check{Title: "bytes of memory of an idle connection on gnet", Limit: idleLimit, AtMost: true, Why: "not measured"}
	c.Ratio = r.Summary(At{"idle", "c=10000", "gnet-mem"}, PerConn).Rounded()
	if c.Ratio.N > 0 {
		c.Pass, c.Why = c.keeps(c.Ratio.Center), ""
	}
	return c
}
