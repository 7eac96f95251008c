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

// Scenario is one question. Its contenders are measured one by one in turns, or
// two by two in duels, or both: the plan says.
type Scenario struct {
	Name   string
	Title  string
	Points []Point
	// Place says where servers and client run.
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
	// Docker: the servers run in containers.
	Docker bool
}

// Point is one setting of a scenario.
type Point struct {
	Name        string
	Words       string // for people: where it is
	Connections int
	Threads     int           // of the client
	Pipeline    int           // requests on the way per connection
	Close       bool          // a connection per request
	Plain       bool          // the seed's command line, word for word
	Body        int           // bytes of each request's body
	Paths       int           // requests go to so many paths, in random order
	Idle        int           // connections beside those that are busy
	Work        time.Duration // CPU time of the handler for each hit, about
	Load        float64       // open loop: share of the contender's own maximum
	Rate        float64       // open loop: requests per second
	Place       placement     // instead of the scenario's
}

// placement returns the cores of the servers and of the client.
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

// twoCores gives the servers two cores; the client has two more where there
// are, else it shares the servers'.
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
	second     = time.Second
	short      = 2 * time.Second
	seedLength = 30 * time.Second
	// tenThousand connections take a part of a second to be opened, so their
	// slices are longer (see fullPlan).
	tenThousand = 10_000
)

// Scenarios of the lab, in the order in which they are reported.
var Scenarios = []Scenario{
	{
		Name: "noise", Title: "The same program against itself: what this machine lets one see",
		Points: []Point{
			{Name: "pinned", Words: "on one core, 100 connections", Connections: 100, Threads: 1},
			{Name: "unpinned", Words: "nothing pinned, 100 connections", Connections: 100, Threads: 4, Place: anywhere},
		},
		Place: apart,
	},
	{
		Name: "seed", Title: "The seed's experiment: wrk -t4 -c100 on localhost, nothing pinned",
		Points: []Point{{Name: "c=100", Words: "nothing pinned, 100 connections", Connections: 100, Threads: 4, Plain: true}},
		Place:  anywhere, turn: closedLoop, Duration: seedLength, Rounds: 1, KeepOutput: true,
	},
	{
		Name: "docker", Title: "The same in containers: default bridge network, published port",
		Points: []Point{{Name: "c=100", Words: "in containers, 100 connections", Connections: 100, Threads: 4, Plain: true}},
		Place:  anywhere, turn: closedLoop, Refuses: cannotBeContained, Duration: seedLength, Rounds: 1, KeepOutput: true,
		Docker: true,
	},
	{
		Name: "pinned", Title: "Server on one core, client on another, 100 connections",
		Points: []Point{{Name: "c=100", Words: "100 connections", Connections: 100, Threads: 1}},
		Place:  apart, turn: closedLoop, Refuses: needsManyCores, Duration: short, Rounds: 3, ProbeSyscalls: true,
	},
	{
		Name: "connections", Title: "From one busy connection to 10,000",
		Points: []Point{
			{Name: "c=1", Words: "one connection", Connections: 1, Threads: 1},
			{Name: "c=10", Words: "10 connections", Connections: 10, Threads: 1},
			{Name: "c=1000", Words: "1,000 connections", Connections: 1000, Threads: 1},
			{Name: "c=10000", Words: "10,000 connections", Connections: tenThousand, Threads: 1},
			{Name: "unpinned c=1", Words: "one connection, nothing pinned", Connections: 1, Threads: 1, Place: anywhere},
		},
		Place: apart,
	},
	{
		Name: "pipelined", Title: "Sixteen requests on the way on each of 100 connections",
		Points: []Point{{Name: "depth=16", Words: "16 requests deep", Connections: 100, Threads: 1, Pipeline: 16}},
		Place:  apart, Refuses: cannotPipeline,
	},
	{
		Name: "work", Title: "The handler works for each hit",
		Points: []Point{
			{Name: "10µs", Words: "handlers that work 10 µs", Connections: 100, Threads: 1, Work: 10 * time.Microsecond},
			{Name: "100µs", Words: "handlers that work 100 µs", Connections: 100, Threads: 1, Work: 100 * time.Microsecond},
			{Name: "1000µs", Words: "handlers that work 1,000 µs", Connections: 100, Threads: 1, Work: time.Millisecond},
			{Name: "two cores, 100µs", Words: "handlers that work 100 µs, two cores", Connections: 100, Threads: 1, Work: 100 * time.Microsecond, Place: twoCores},
		},
		Place: apart, Refuses: cannotWork,
	},
	{
		Name: "bodies", Title: "Requests with bodies",
		Points: []Point{
			{Name: "1KB", Words: "bodies of 1 KB", Connections: 100, Threads: 1, Body: 1 << 10},
			{Name: "64KB", Words: "bodies of 64 KB", Connections: 100, Threads: 1, Body: 64 << 10},
			{Name: "1MB", Words: "bodies of 1 MB, 10 connections", Connections: 10, Threads: 1, Body: 1 << 20},
		},
		Place: apart, Refuses: anyOf(httpOnly, blind),
	},
	{
		Name: "crowd", Title: "100 busy connections among idle ones",
		Points: []Point{
			{Name: "idle=10000", Words: "100 busy among 10,000 idle connections", Connections: 100, Threads: 1, Idle: 10_000},
			{Name: "idle=50000", Words: "100 busy among 50,000 idle connections", Connections: 100, Threads: 1, Idle: 50_000},
		},
		Place: apart, Refuses: httpOnly,
	},
	{
		Name: "churn", Title: "A new connection for every request, 100 at a time",
		Points: []Point{{Name: "c=100", Words: "a new connection for each request", Connections: 100, Threads: 1, Close: true}},
		Place:  apart, Refuses: anyOf(httpOnly, blind),
	},
	{
		Name: "cores", Title: "Two cores for the server",
		Points: []Point{{Name: "c=100", Words: "two cores for the server", Connections: 100, Threads: 2}},
		Place:  twoCores,
	},
	{
		Name: "paths", Title: "A counter for every path, in random order",
		Points: []Point{
			{Name: "names=10000", Words: "10,000 names", Connections: 100, Threads: 1, Paths: 10_000},
			{Name: "names=10000, c=1", Words: "10,000 names, one connection", Connections: 1, Threads: 1, Paths: 10_000},
			{Name: "names=1000000", Words: "1,000,000 names", Connections: 100, Threads: 1, Paths: 1_000_000},
		},
		Place: apart, Refuses: httpOnly,
	},
	{
		Name: "idle", Title: "Memory of 10,000 keep-alive connections that each made one request",
		Points: []Point{{Name: "c=10000", Words: "10,000 idle connections", Connections: tenThousand}},
		Place:  anywhere, turn: idleMemory, Refuses: anyOf(httpOnly, needsManyCores), Rounds: 2,
	},
	{
		Name: "open", Title: "Latency at a constant rate, as independent users meet it",
		Points: []Point{
			{Name: "10,000/s", Words: "10,000 requests a second", Connections: 100, Threads: 1, Rate: 10_000},
			{Name: "30,000/s", Words: "30,000 requests a second", Connections: 100, Threads: 1, Rate: 30_000},
			{Name: "60,000/s", Words: "60,000 requests a second", Connections: 100, Threads: 1, Rate: 60_000},
			{Name: "half of its maximum", Words: "half of its own maximum", Connections: 100, Threads: 1, Load: 0.5},
		},
		Place: apart, turn: openLoop, Refuses: anyOf(needsManyCores, httpOnly), Duration: short, Rounds: 3,
	},
}

// Where says in words what a point of a scenario is.
func Where(scenario, point string) string {
	s, _ := ScenarioNamed(scenario)
	for _, p := range s.Points {
		if p.Name == point {
			return p.Words
		}
	}
	return scenario + " " + point
}

// ScenarioNamed finds a scenario.
func ScenarioNamed(name string) (Scenario, bool) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return Scenarios[i], true
}

func (s Scenario) placeOf(p Point) (server, client []int, err error) {
	if p.Place != nil {
		return p.Place()
	}
	return s.Place()
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
	if c.Protocol == contender.SQL {
		return errors.New("its load generator doesn't pipeline")
	}
	return nil
}

func cannotWork(c contender.Contender) error {
	if !c.Works {
		return errors.New("its handler can't be told to work")
	}
	return nil
}

func blind(c contender.Contender) error {
	if c.Blind {
		return errors.New("doesn't read the fields that this asks for")
	}
	return nil
}

func cannotBeContained(c contender.Contender) error {
	if !c.Containers {
		return errors.New("isn't made for a container")
	}
	return nil
}

// Step of a plan: a scenario with some contenders in turns, or with some duels.
type Step struct {
	Scenario   string      `json:"scenario"`
	Points     []string    `json:"points,omitempty"`     // empty: all
	Contenders []string    `json:"contenders,omitempty"` // names or patterns such as gnet-*
	Rounds     int         `json:"rounds,omitempty"`
	Duels      [][2]string `json:"duels,omitempty"`
	Pairs      int         `json:"pairs,omitempty"`   // at most, unless
	Longest    int         `json:"longest,omitempty"` // the interval is wide, and others took less time than they might
	Seconds    float64     `json:"seconds"`           // of one measurement or slice
}

func (s Step) duration() time.Duration { return time.Duration(s.Seconds * float64(time.Second)) }

// Turns measures contenders one by one, as long and as often as the scenario says.
func Turns(scenario string, contenders ...string) Step {
	s, _ := ScenarioNamed(scenario)
	return Step{Scenario: scenario, Contenders: contenders, Rounds: s.Rounds, Seconds: s.Duration.Seconds()}
}

// Duels measures two by two: "a:b" names a duel.
func Duels(scenario string, pairs int, duels ...[2]string) Step {
	return Step{Scenario: scenario, Duels: duels, Pairs: pairs, Seconds: second.Seconds()}
}

// At restricts the step to some points.
func (s Step) At(points ...string) Step {
	s.Points = points
	return s
}

// Longer lets duels whose interval is wide go on, for three times as long at most,
// in the time that others left.
func (s Step) Longer() Step {
	s.Longest = 3 * s.Pairs
	return s
}

// Times sets rounds and the duration of one measurement.
func (s Step) Times(rounds int, d time.Duration) Step {
	s.Rounds, s.Seconds = rounds, d.Seconds()
	return s
}

// takesPart reports whether the step may meet the contender.
func (s Step) takesPart(name string) bool {
	return MatchesAny(s.Contenders, name) ||
		slices.ContainsFunc(s.Duels, func(d [2]string) bool { return d[0] == name || d[1] == name })
}

// MatchesAny reports whether a name is one of the patterns (as in path.Match).
func MatchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}
