package lab

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/counterd/counterd/bench/contender"
	"github.com/counterd/counterd/bench/proc"
)

// Scenario is one question, asked of every contender it fits.
type Scenario struct {
	Name   string
	Title  string
	Points []Point
	// Place says where server and client run.
	Place placement
	turn  turn
	// Refuses says why a contender doesn't fit; nil: all fit.
	Refuses func(contender.Contender) error
	// Duration of one measurement, and rounds, unless the plan says otherwise.
	Duration time.Duration
	Rounds   int
	// ProbeSyscalls adds a short run under perf in the first round.
	ProbeSyscalls bool
	// KeepOutput stores the load generator's own words.
	KeepOutput bool
	// Docker: the server runs in a container.
	Docker bool
}

// Point is one setting of a scenario.
type Point struct {
	Name        string
	Connections int
	Threads     int     // of the client
	Pipeline    int     // requests on the way per connection
	Close       bool    // a connection per request
	Plain       bool    // the seed's command line, word for word
	Load        float64 // open loop: share of the contender's own maximum
}

// placement returns the cores of the server and of the client.
type placement func() (server, client []int, err error)

func anywhere() (server, client []int, err error) { return nil, nil, nil }

// apart gives each side a core of its own.
func apart() (server, client []int, err error) {
	cores := proc.AllCores()
	if len(cores) < 2 {
		return nil, nil, errors.New("needs two cores")
	}
	return cores[:1], cores[1:2], nil
}

// twoCores gives the server two cores; the client has two more where there
// are, else it shares the server's.
func twoCores() (server, client []int, err error) {
	cores := proc.AllCores()
	switch {
	case len(cores) < 2:
		return nil, nil, errors.New("needs two cores")
	case len(cores) < 4:
		return cores[:2], cores[:2], nil
	}
	return cores[:2], cores[2:4], nil
}

const (
	short      = 2 * time.Second
	seedLength = 30 * time.Second
	idleConns  = 10_000
)

// Scenarios of the lab, in the order in which they are run and reported.
var Scenarios = []Scenario{
	{
		Name: "noise", Title: "The same program twice: how noisy is this machine?",
		Points: []Point{
			{Name: "once", Connections: 100, Threads: 1},
			{Name: "again", Connections: 100, Threads: 1},
		},
		Place: apart, turn: closedLoop, Duration: short, Rounds: 6,
	},
	{
		Name: "seed", Title: "The seed's experiment: wrk -t4 -c100 on localhost, nothing pinned",
		Points: []Point{{Name: "c=100", Connections: 100, Threads: 4, Plain: true}},
		Place:  anywhere, turn: closedLoop, Duration: seedLength, Rounds: 3, KeepOutput: true,
	},
	{
		Name: "pinned", Title: "Server on one core, client on another, 100 connections",
		Points: []Point{{Name: "c=100", Connections: 100, Threads: 1}},
		Place:  apart, turn: closedLoop, Refuses: needsManyCores, Duration: short, Rounds: 5, ProbeSyscalls: true,
	},
	{
		Name: "pipelined", Title: "Several requests on the way per connection, 100 connections, pinned",
		Points: []Point{
			{Name: "depth=4", Connections: 100, Threads: 1, Pipeline: 4},
			{Name: "depth=16", Connections: 100, Threads: 1, Pipeline: 16},
			{Name: "depth=64", Connections: 100, Threads: 1, Pipeline: 64},
		},
		Place: apart, turn: closedLoop, Refuses: anyOf(needsManyCores, cannotPipeline), Duration: short, Rounds: 5, ProbeSyscalls: true,
	},
	{
		Name: "connections", Title: "From one connection to 10,000, all busy, pinned",
		Points: []Point{
			{Name: "c=1", Connections: 1, Threads: 1},
			{Name: "c=10", Connections: 10, Threads: 1},
			{Name: "c=100", Connections: 100, Threads: 1},
			{Name: "c=1000", Connections: 1000, Threads: 1},
			{Name: "c=10000", Connections: 10_000, Threads: 1},
		},
		Place: apart, turn: closedLoop, Refuses: needsManyCores, Duration: short, Rounds: 3,
	},
	{
		Name: "idle", Title: "Memory of 10,000 keep-alive connections that each made one request",
		Points: []Point{{Name: "c=10000", Connections: idleConns}},
		Place:  anywhere, turn: idleMemory, Refuses: anyOf(httpOnly, needsManyCores), Rounds: 3,
	},
	{
		Name: "churn", Title: "A new connection for every request, 100 at a time, pinned",
		Points: []Point{{Name: "c=100", Connections: 100, Threads: 1, Close: true}},
		Place:  apart, turn: closedLoop, Refuses: anyOf(needsManyCores, httpOnly, blind), Duration: short, Rounds: 3,
	},
	{
		Name: "open", Title: "Latency at a constant rate, as independent users meet it, pinned",
		Points: []Point{
			{Name: "25%", Connections: 100, Threads: 1, Load: 0.25},
			{Name: "50%", Connections: 100, Threads: 1, Load: 0.50},
			{Name: "75%", Connections: 100, Threads: 1, Load: 0.75},
		},
		Place: apart, turn: openLoop, Refuses: anyOf(needsManyCores, httpOnly), Duration: short, Rounds: 3,
	},
	{
		Name: "cores", Title: "Two cores for the server",
		Points: []Point{{Name: "two", Connections: 100, Threads: 2}},
		Place:  twoCores, turn: closedLoop, Duration: short, Rounds: 3,
	},
	{
		Name: "docker", Title: "In a container, default bridge network, published port, wrk -t4 -c100",
		Points: []Point{{Name: "c=100", Connections: 100, Threads: 4, Plain: true}},
		Place:  anywhere, turn: closedLoop, Refuses: cannotBeContained, Duration: seedLength, Rounds: 3, KeepOutput: true,
		Docker: true,
	},
}

// ScenarioNamed finds a scenario.
func ScenarioNamed(name string) (Scenario, bool) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return Scenarios[i], true
}

func anyOf(checks ...func(contender.Contender) error) func(contender.Contender) error {
	return func(c contender.Contender) error {
		for _, check := range checks {
			if err := check(c); err != nil {
				return err
			}
		}
		return nil
	}
}

func needsManyCores(c contender.Contender) error {
	if c.ManyCores {
		return errors.New("the same as its single thread when it has one core")
	}
	return nil
}

func httpOnly(c contender.Contender) error {
	if c.Protocol != contender.HTTP {
		return fmt.Errorf("speaks %s, its load generator can't do this", c.Protocol)
	}
	return nil
}

func cannotPipeline(c contender.Contender) error {
	if c.Protocol == contender.SQL || c.Protocol == contender.Disk {
		return fmt.Errorf("%s: its load generator doesn't pipeline", c.Protocol)
	}
	return nil
}

func blind(c contender.Contender) error {
	if c.Blind {
		return errors.New("doesn't read the field that asks for it")
	}
	return nil
}

func cannotBeContained(c contender.Contender) error {
	if !c.Containers {
		return errors.New("no image for it can be made without a network")
	}
	return nil
}

// Step of a plan: a scenario with some contenders.
type Step struct {
	Scenario   string   `json:"scenario"`
	Points     []string `json:"points,omitempty"` // empty: all
	Contenders []string `json:"contenders"`       // names or patterns such as gnet-*
	Rounds     int      `json:"rounds"`
	Seconds    float64  `json:"seconds"` // of one measurement
}

func (s Step) duration() time.Duration { return time.Duration(s.Seconds * float64(time.Second)) }

// NewStep fills in the scenario's own rounds and duration.
func NewStep(scenario string, contenders ...string) Step {
	s, _ := ScenarioNamed(scenario)
	return Step{Scenario: scenario, Contenders: contenders, Rounds: s.Rounds, Seconds: s.Duration.Seconds()}
}

// At restricts the step to some points.
func (s Step) At(points ...string) Step {
	s.Points = points
	return s
}

// Times sets rounds and the duration of one measurement.
func (s Step) Times(rounds int, d time.Duration) Step {
	s.Rounds, s.Seconds = rounds, d.Seconds()
	return s
}

// MatchesAny tells whether a name is one of the patterns (as in path.Match).
func MatchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}
