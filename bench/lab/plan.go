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
	engines   = []string{"gnet-mem", "goroutine-mem", "std-mem"}
	headline  = []string{"gnet-mem", "gnet-file", "goroutine-mem", "goroutine-file", "std-mem", "std-file"}
	seedStack = []string{"seed-asyncio", "seed-uvloop"}
)

func join(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// PlanFor returns the steps of a mode.
func PlanFor(mode string) ([]Step, error) {
	noise := NewStep("noise", "gnet-mem")
	switch mode {
	case ModeDefault:
		return []Step{noise, NewStep("seed", headline...)}, nil
	case ModeQuick:
		return []Step{
			noise.Times(3, time.Second),
			NewStep("seed", headline...).Times(3, 2*time.Second),
		}, nil
	case ModeDocker:
		return []Step{NewStep("docker", "*").Times(3, 10*time.Second)}, nil
	case ModeCheck:
		return checkPlan(), nil
	case ModeFull:
		return fullPlan(noise), nil
	}
	return nil, fmt.Errorf("no mode %q", mode)
}

func fullPlan(noise Step) []Step {
	floor := []string{"epoll", "fasthttp"}
	return []Step{
		noise,
		NewStep("seed", join(headline, seedStack)...).Times(3, seedLength), // with fewer there is no claim
		NewStep("pinned", "*"),
		NewStep("pipelined", join(engines, floor, []string{"gnet-file", "nginx", "redis-*"})...).At("depth=16"),
		NewStep("pipelined", engines...).At("depth=4", "depth=64").Times(3, short),
		NewStep("connections", join(engines, floor, []string{"gnet-file", "fdatasync"})...).
			At("c=1", "c=10", "c=1000", "c=10000"), // 100 is pinned's
		NewStep("idle", join(engines, floor, []string{"nginx", "aiohttp-*"})...),
		NewStep("churn", join(engines, []string{"gnet-file", "fasthttp", "nginx"})...),
		NewStep("open", join(engines, []string{"gnet-file", "fasthttp", "seed-uvloop"})...),
		NewStep("cores", join(engines, []string{"gnet-file", "fasthttp", "nginx", "epoll-percore"})...),
		NewStep("docker", join(engines, []string{"gnet-file", "fasthttp"})...).Times(3, 3*time.Second),
	}
}

// Choose narrows a plan to the scenarios and contenders named on the command
// line. A scenario that the plan lacks is added with everything it fits.
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
	for _, pattern := range only {
		if !slices.ContainsFunc(contender.All(), func(c contender.Contender) bool { return MatchesAny([]string{pattern}, c.Name) }) {
			return nil, fmt.Errorf("no contender %q; --list names them", pattern)
		}
	}
	if len(only) == 0 {
		return plan, nil
	}
	for i := range plan {
		plan[i].Contenders = only
	}
	return plan, nil
}

func stepsOf(plan []Step, name string) ([]Step, error) {
	if name == "acceptance" {
		return checkPlan(), nil
	}
	if _, ok := ScenarioNamed(name); !ok {
		return nil, fmt.Errorf("no scenario %q; --list names them", name)
	}
	var steps []Step
	for _, s := range plan {
		if s.Scenario == name {
			steps = append(steps, s)
		}
	}
	if len(steps) > 0 {
		return steps, nil
	}
	full, err := PlanFor(ModeFull)
	if err != nil {
		return nil, err
	}
	for _, s := range full {
		if s.Scenario == name {
			steps = append(steps, s)
		}
	}
	if len(steps) == 1 {
		steps[0].Points = nil // asked for by name, it is asked for whole
	}
	return steps, nil
}
