package lab

import (
	"fmt"
	"slices"
	"time"

	"github.com/counterd/counterd/bench/contender"
)

// The names of the modes.
const (
	ModeDefault = "default"
	ModeQuick   = "quick"
	ModeFull    = "full"
	ModeDocker  = "docker"
	ModeCheck   = "check"
	ModeChosen  = "chosen"
)

var (
	engines = []string{"gnet-mem", "goroutine-mem", "std-mem"}
	files   = []string{"gnet-file", "goroutine-file", "std-file"}
	// seedRows are the seed's stack, and counterd on the same PostgreSQL and on
	// the durable file.
	seedRows = slices.Concat([]string{"seed-asyncio", "seed-uvloop", "gnet-pg", "goroutine-pg", "std-pg"}, files)
)

// The duels that many scenarios have.
var (
	loopOrGoroutine = [2]string{"gnet-mem", "goroutine-mem"}
	loopOrStd       = [2]string{"gnet-mem", "std-mem"}
	stackOnly       = [2]string{"goroutine-mem", "std-mem"}
	bareModels      = [2]string{"stripped-gnet", "stripped-goroutine"}
	hertzModels     = [2]string{"hertz-netpoll", "hertz-net"}
	durableCost     = [2]string{"gnet-file", "gnet-mem"}
	durableFloor    = [2]string{"gnet-file", "epoll-file"}
	goroutineFloor  = [2]string{"goroutine-file", "epoll-file"}
	onPostgres      = [2]string{"gnet-pg", "seed-asyncio"}
)

// self is a program against itself.
func self(name string) [2]string { return [2]string{name, name} }

// against pairs a contender with each of the others.
func against(a string, others ...string) [][2]string {
	var all [][2]string
	for _, b := range others {
		all = append(all, [2]string{a, b})
	}
	return all
}

// PlanFor returns the steps of a mode.
func PlanFor(mode string) ([]Step, error) {
	switch mode {
	case ModeDefault:
		return []Step{
			Duels("noise", 24, self("gnet-mem")).At("unpinned"),
			Turns("seed", slices.Concat(seedRows, engines)...),
			Duels("seed", 24, loopOrGoroutine, loopOrStd, durableCost, onPostgres),
		}, nil
	case ModeQuick:
		return []Step{
			Duels("noise", fewestPairs, self("gnet-mem")).At("unpinned"),
			Turns("seed", slices.Concat(files, engines)...).Times(1, short),
			Duels("seed", fewestPairs, loopOrGoroutine),
		}, nil
	case ModeDocker:
		return []Step{
			Duels("noise", 12, self("gnet-mem")).At("unpinned"),
			Turns("docker", seedRows...),
			Duels("docker", 12, onPostgres, [2]string{"gnet-file", "goroutine-file"}),
			Turns("seed", seedRows...),
		}, nil
	case ModeCheck:
		return checkPlan(), nil
	case ModeFull:
		return fullPlan(), nil
	}
	return nil, fmt.Errorf("no mode %q", mode)
}

// fullPlan has a duel for each claim, and turns where absolute figures are told.
func fullPlan() []Step {
	const pairs = 24
	noise := Duels("noise", pairs, self("gnet-mem"))
	long := func(s Step) Step { // slices in which opening the connections is little
		s.Seconds, s.Pairs = 4, 14
		return s.Longer()
	}
	// The noise is looked at three times: what it is may change in an hour. The duels
	// that the machine disturbs most come late, when others have left them time.
	return []Step{
		noise.At("pinned"),
		Turns("seed", slices.Concat(seedRows, engines)...),
		Duels("seed", pairs, loopOrGoroutine, loopOrStd, durableFloor),
		Turns("pinned", slices.Concat(engines, files, []string{"gnet-file100ms", "epoll", "epoll-file", "stripped-*", "nethttp",
			"fasthttp", "hertz-*", "nbio", "nginx", "aiohttp-*", "redis-*", "pgbench"})...).Times(2, short),
		Duels("pinned", pairs, slices.Concat([][2]string{stackOnly, loopOrGoroutine, loopOrStd},
			against("gnet-mem", "fasthttp", "nbio", "nginx", "epoll", "stripped-gnet"),
			[][2]string{hertzModels, bareModels, durableCost, durableFloor, goroutineFloor, {"gnet-file", "goroutine-file"}, {"gnet-file", "redis-always"}})...).Longer(),
		Duels("connections", pairs, loopOrGoroutine, loopOrStd).At("c=1", "c=10", "c=1000").Longer(),
		Duels("connections", pairs, durableFloor, goroutineFloor).At("c=1", "unpinned c=1").Longer(),
		noise.At("unpinned"),
		Duels("pipelined", pairs, loopOrGoroutine, loopOrStd, [2]string{"gnet-mem", "epoll"}, [2]string{"gnet-mem", "fasthttp"}),
		Duels("work", 20, bareModels),
		Duels("work", 20, hertzModels).At("100µs"),
		Duels("bodies", 20, loopOrGoroutine),
		Duels("crowd", pairs, loopOrGoroutine),
		Duels("churn", 20, loopOrGoroutine),
		Duels("cores", pairs, loopOrGoroutine, hertzModels, [2]string{"gnet-mem", "epoll-percore"}),
		Duels("paths", 20, [2]string{"paths-mem", "gnet-mem"}).At("names=10000", "names=1000000"),
		Duels("paths", 20, [2]string{"paths-dir", "gnet-file"}, [2]string{"paths-pg", "seed-paths"}).At("names=10000").Longer(),
		Duels("paths", 20, [2]string{"paths-dir", "gnet-file"}).At("names=10000, c=1").Longer(),
		long(Duels("connections", pairs, loopOrGoroutine, loopOrStd).At("c=10000")),
		Duels("seed", pairs, onPostgres, [2]string{"gnet-pg", "seed-uvloop"}).Longer(),
		Turns("idle", slices.Concat(engines, []string{"nethttp", "fasthttp", "hertz-*", "nbio", "stripped-*", "epoll", "aiohttp-uvloop"})...),
		Turns("open", slices.Concat(engines, []string{"fasthttp", "hertz-*"})...).Times(2, short),
		Turns("docker", seedRows...).Times(1, 10*time.Second),
		noise.At("pinned"),
	}
}

// Choose narrows a plan to the scenarios and contenders named on the command
// line. A scenario that the plan lacks is taken from the full plan, and where it
// has no duel between two of the named, the first meets each of the others.
func Choose(plan []Step, scenarios, only []string) ([]Step, error) {
	if len(scenarios) > 0 {
		var chosen []Step
		for _, name := range scenarios {
			steps, err := stepsOf(plan, name)
			if err != nil {
				return nil, err
			}
			chosen = append(chosen, steps...)
		}
		plan = chosen
	}
	if len(only) == 0 {
		return withNoise(plan), nil
	}
	named, err := contendersNamed(only)
	if err != nil {
		return nil, err
	}
	var narrowed []Step
	for _, s := range plan {
		if s.Scenario == "noise" {
			narrowed = append(narrowed, s)
			continue
		}
		s = s.among(named)
		if len(s.Contenders)+len(s.Duels) > 0 {
			narrowed = append(narrowed, s)
		}
	}
	for _, s := range plan {
		if len(s.Duels) == 0 || s.Scenario == "noise" || hasDuels(narrowed, s.Scenario) {
			continue
		}
		s.Points, s.Duels = nil, against(named[0], named[1:]...)
		narrowed = append(narrowed, s)
	}
	return withNoise(narrowed), nil
}

func hasDuels(plan []Step, scenario string) bool {
	return slices.ContainsFunc(plan, func(s Step) bool { return s.Scenario == scenario && len(s.Duels) > 0 })
}

// among leaves what the named contenders can do: of duels those between two of
// them.
func (s Step) among(named []string) Step {
	if len(s.Contenders) > 0 {
		s.Contenders = named
		return s
	}
	s.Duels = slices.DeleteFunc(slices.Clone(s.Duels), func(d [2]string) bool {
		return !slices.Contains(named, d[0]) || !slices.Contains(named, d[1])
	})
	return s
}

// contendersNamed expands patterns, in the order of the command line.
func contendersNamed(patterns []string) ([]string, error) {
	var named []string
	for _, p := range patterns {
		known := false
		for _, c := range contender.All() {
			if MatchesAny([]string{p}, c.Name) {
				known = true
				if !slices.Contains(named, c.Name) {
					named = append(named, c.Name)
				}
			}
		}
		if !known {
			return nil, fmt.Errorf("no contender %q; --list names them", p)
		}
	}
	return named, nil
}

// withNoise puts a duel of a program with itself in front of a plan that has
// duels and none like it: without it there is no claim.
func withNoise(plan []Step) []Step {
	pairs := 0
	for _, s := range plan {
		if s.Scenario == "noise" {
			return plan
		}
		pairs = max(pairs, s.Pairs)
	}
	if pairs == 0 {
		return plan
	}
	return append([]Step{Duels("noise", pairs, self("gnet-mem")).At("pinned")}, plan...)
}

func stepsOf(plan []Step, name string) ([]Step, error) {
	if _, ok := ScenarioNamed(name); !ok {
		return nil, fmt.Errorf("no scenario %q; --list names them", name)
	}
	of := func(plan []Step) (steps []Step) {
		for _, s := range plan {
			if s.Scenario == name {
				steps = append(steps, s)
			}
		}
		return steps
	}
	if steps := of(plan); len(steps) > 0 {
		return steps, nil
	}
	return of(fullPlan()), nil
}
