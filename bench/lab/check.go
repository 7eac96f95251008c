package lab

import (
	"fmt"
	"time"

	"github.com/counterd/counterd/bench/stat"
)

// Check is one thing that counterd promises of its speed: a ratio between two
// contenders measured in the same rounds, and a limit to it.
type Check struct {
	Title string        `json:"title"`
	Ratio stat.Interval `json:"ratio"`
	Limit float64       `json:"limit"`
	// AtMost: the ratio must not be above the limit; else not below it.
	AtMost bool   `json:"at_most"`
	Pass   bool   `json:"pass"`
	Why    string `json:"why,omitempty"` // it could not be judged
}

// Words says what the limit asks for.
func (c Check) Words() string {
	if c.AtMost {
		return fmt.Sprintf("at most %.2f", c.Limit)
	}
	return fmt.Sprintf("at least %.2f", c.Limit)
}

// idleLimit in bytes of resident memory per idle connection.
const idleLimit = 1536

// checkPlan measures what checks need, interleaved.
func checkPlan() []Step {
	const rounds = 7
	return []Step{
		NewStep("noise", "gnet-mem").Times(6, short),
		NewStep("pinned", "gnet-mem", "std-mem", "epoll", "fasthttp", "gnet-file", "redis-always").Times(rounds, short),
		NewStep("pipelined", "gnet-mem", "epoll", "fasthttp").At("depth=16").Times(rounds, short),
		NewStep("seed", "gnet-mem", "gnet-file").Times(rounds, 3*time.Second),
		NewStep("connections", "gnet-mem", "gnet-file", "fdatasync").At("c=1").Times(rounds, short),
		NewStep("idle", engines...),
	}
}

// RunChecks judges all that the results allow, in the modes that have rounds
// enough for it.
func RunChecks(r *Results) []Check {
	if r.Mode != ModeCheck && r.Mode != ModeFull {
		return nil
	}
	pinned := func(c string) At { return At{"pinned", "c=100", c} }
	piped := func(c string) At { return At{"pipelined", "depth=16", c} }
	seed := func(c string) At { return At{"seed", "c=100", c} }
	checks := []Check{
		ratioCheck(r, "pinned: CPU per request, gnet in memory : C epoll", pinned("gnet-mem"), pinned("epoll"), CPU, 1.20, true),
		ratioCheck(r, "pinned: CPU per request, std : gnet, both in memory", pinned("std-mem"), pinned("gnet-mem"), CPU, 1.60, false),
		ratioCheck(r, "pinned: RPS on gnet, durable file : memory", pinned("gnet-file"), pinned("gnet-mem"), RPS, 0.80, false),
		ratioCheck(r, "unpinned: RPS on gnet, durable file : memory", seed("gnet-file"), seed("gnet-mem"), RPS, 0.75, false),
		ratioCheck(r, "pipelined ×16: CPU per request, gnet in memory : C epoll", piped("gnet-mem"), piped("epoll"), CPU, 1.35, true),
		ratioCheck(r, "pipelined ×16: CPU per request, gnet in memory : fasthttp", piped("gnet-mem"), piped("fasthttp"), CPU, 1.00, true),
		idleCheck(r),
		turnCheck(r),
		ratioCheck(r, "pinned: RPS, gnet durable file : Redis appendfsync always", pinned("gnet-file"), pinned("redis-always"), RPS, 1.00, false),
	}
	var judged []Check
	for _, c := range checks {
		if c.Why == "" {
			judged = append(judged, c)
		}
	}
	if r.Mode == ModeCheck {
		return checks // what is missing is said
	}
	return judged
}

func ratioCheck(r *Results, title string, a, b At, m Metric, limit float64, atMost bool) Check {
	return judge(title, r.Ratio(a, b, m), limit, atMost)
}

func judge(title string, ratio stat.Interval, limit float64, atMost bool) Check {
	c := Check{Title: title, Ratio: ratio, Limit: limit, AtMost: atMost}
	switch {
	case ratio.N == 0:
		c.Why = "not measured"
	case atMost:
		c.Pass = ratio.Center <= limit
	default:
		c.Pass = ratio.Center >= limit
	}
	return c
}

func idleCheck(r *Results) Check {
	bytes := r.Values(At{"idle", "c=10000", "gnet-mem"}, PerConn)
	limit := map[int]float64{}
	for round := range bytes {
		limit[round] = idleLimit
	}
	return judge("memory of an idle connection on gnet : 1.5 KiB", stat.Ratio(bytes, limit), 1, true)
}

// turnCheck: one connection, one request after the other. A durable answer
// may take what an answer from memory takes, and one bare write and sync, and
// a quarter more.
func turnCheck(r *Results) Check {
	at := func(c string) At { return At{"connections", "c=1", c} }
	durable := r.Values(at("gnet-file"), Turn)
	memory := r.Values(at("gnet-mem"), Turn)
	disk := r.Values(at("fdatasync"), Turn)
	floor := map[int]float64{}
	for round, m := range memory {
		if d, ok := disk[round]; ok {
			floor[round] = m + d
		}
	}
	return judge("one connection: time per durable request : memory + bare write and sync", stat.Ratio(durable, floor), 1.25, true)
}
