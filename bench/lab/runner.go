package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/counterd/counterd/bench/contender"
	"github.com/counterd/counterd/bench/load"
)

// turnSlack bounds a turn beyond its measurements: start, warm-up, settling.
const turnSlack = time.Minute

// Lab runs a plan.
type Lab struct {
	Env      contender.Env // Data is the parent of each start's own directory
	Progress Progress
	Results  *Results
	// Saved is called after each step, so that little is lost.
	Saved func()
	// WarmUp before each measurement; a second when zero.
	WarmUp time.Duration

	// Patient waits before each turn until others leave the machine alone.
	Patient bool

	absentees map[string]error

	order    *rand.Rand
	docker   *contender.Docker
	maximum  map[string]float64 // RPS by contender, for the open loop
	hopeless map[At]bool        // what failed isn't tried again
}

// Progress hears of what is done.
type Progress interface {
	// Turn is called before each turn: the number of turns done and of all,
	// and the time left by the plan.
	Turn(done, all int, left time.Duration, what string)
	// Done is called after it.
	Done(what string)
}

// cell is one turn.
type cell struct {
	step      Step
	scenario  Scenario
	point     Point
	contender contender.Contender
	round     int
	server    []int
	client    []int
}

func (c cell) at() At { return At{c.scenario.Name, c.point.Name, c.contender.Name} }

func (c cell) duration() time.Duration {
	d := c.step.duration()
	if c.point.Connections >= 10_000 {
		return 2 * d // opening so many takes a part of it
	}
	return d
}

// estimate of a turn's length.
func (c cell) estimate() time.Duration {
	const startAndSettle = 500 * time.Millisecond
	d := c.duration() + warmUp + startAndSettle
	if c.scenario.Name == "idle" {
		d = 3 * time.Second
	}
	if len(c.contender.Needs) > 0 || c.contender.Kind == contender.Durable && c.contender.Protocol == contender.HTTP {
		d += startAndSettle
	}
	if c.scenario.ProbeSyscalls && c.round == 0 {
		d += warmUp
	}
	return d
}

// Estimate is how long the plan takes.
func (l *Lab) Estimate() time.Duration {
	var total time.Duration
	for _, s := range l.Results.Plan {
		cells, _ := l.cells(s)
		for _, c := range cells {
			total += c.estimate()
		}
	}
	return total
}

// Describe fills in the contenders that the plan may meet, and why some can't
// take part at all.
func (l *Lab) Describe() {
	for _, c := range contender.All() {
		if !l.planned(c.Name) {
			continue
		}
		l.Results.Contenders = append(l.Results.Contenders, About{
			Name: c.Name, Title: c.Title, Protocol: string(c.Protocol), Kind: string(c.Kind),
		})
		if err := l.missing(c); err != nil {
			l.absent(Absence{Contender: c.Name, Why: err.Error()})
		}
	}
}

// missing asks once: some answers take a while.
func (l *Lab) missing(c contender.Contender) error {
	if l.absentees == nil {
		l.absentees = map[string]error{}
	}
	why, asked := l.absentees[c.Name]
	if !asked {
		why = c.Missing(l.Env)
		l.absentees[c.Name] = why
	}
	return why
}

func (l *Lab) planned(name string) bool {
	return slices.ContainsFunc(l.Results.Plan, func(s Step) bool { return MatchesAny(s.Contenders, name) })
}

func (l *Lab) absent(a Absence) {
	if !slices.Contains(l.Results.NotMeasured, a) {
		l.Results.NotMeasured = append(l.Results.NotMeasured, a)
	}
}

// Run measures. When ctx ends it returns its error; the results hold what was
// measured until then.
func (l *Lab) Run(ctx context.Context) error {
	l.order = newOrder(l.Results.Seed)
	l.maximum = map[string]float64{}
	l.hopeless = map[At]bool{}

	all, done := 0, 0
	left := l.Estimate()
	for _, s := range l.Results.Plan {
		cells, _ := l.cells(s)
		all += len(cells)
	}
	for _, step := range l.Results.Plan {
		cells, absences := l.cells(step)
		for _, a := range absences {
			l.absent(a)
		}
		l.shuffle(cells)
		for _, c := range cells {
			what := describe(c)
			l.Progress.Turn(done, all, left, what)
			if err := l.take(ctx, c); err != nil {
				return err
			}
			done++
			left -= c.estimate()
		}
		l.Saved()
	}
	return nil
}

func describe(c cell) string {
	return fmt.Sprintf("%s %s  round %d/%d  %s", c.scenario.Name, c.point.Name, c.round+1, c.step.Rounds, c.contender.Name)
}

// cells lists the turns of a step, round by round.
func (l *Lab) cells(step Step) ([]cell, []Absence) {
	sc, ok := ScenarioNamed(step.Scenario)
	if !ok {
		return nil, []Absence{{Scenario: step.Scenario, Why: "there is no such scenario", Failed: true}}
	}
	server, client, err := sc.Place()
	if err != nil {
		return nil, []Absence{{Scenario: sc.Name, Why: err.Error()}}
	}
	var fit []contender.Contender
	var absences []Absence
	for _, c := range contender.All() {
		if !MatchesAny(step.Contenders, c.Name) || l.missing(c) != nil {
			continue
		}
		if sc.Refuses != nil {
			if err := sc.Refuses(c); err != nil {
				absences = append(absences, Absence{Scenario: sc.Name, Contender: c.Name, Why: err.Error()})
				continue
			}
		}
		// The disk alone is a part of one connection's time, nothing else.
		if c.Protocol == contender.Disk && sc.Name != "connections" {
			continue
		}
		fit = append(fit, c)
	}
	var cells []cell
	for _, p := range sc.Points {
		if len(step.Points) > 0 && !slices.Contains(step.Points, p.Name) {
			continue
		}
		for _, c := range fit {
			if c.Protocol == contender.Disk && p.Connections != 1 {
				continue
			}
			if err := tooMany(c, p); err != nil {
				absences = append(absences, Absence{Scenario: sc.Name, Point: p.Name, Contender: c.Name, Why: err.Error()})
				continue
			}
			for round := range step.Rounds {
				cells = append(cells, cell{step, sc, p, c, round, server, client})
			}
		}
	}
	slices.SortStableFunc(cells, func(a, b cell) int { return a.round - b.round })
	return cells, absences
}

// tooMany says why so many connections can't be had.
func tooMany(c contender.Contender, p Point) error {
	const reserve = 200 // files that are no connections
	if c.MaxConnections > 0 && p.Connections > c.MaxConnections {
		return fmt.Errorf("takes %d connections", c.MaxConnections)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil // then the turn will tell
	}
	if uint64(p.Connections+reserve) > uint64(limit.Cur) {
		return fmt.Errorf("needs %d open files, the limit is %d", p.Connections+reserve, limit.Cur)
	}
	return nil
}

// shuffle mixes the turns inside each round, never across rounds.
func (l *Lab) shuffle(cells []cell) {
	for start := 0; start < len(cells); {
		end := start
		for end < len(cells) && cells[end].round == cells[start].round {
			end++
		}
		round := cells[start:end]
		l.order.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		start = end
	}
}

// take gives one contender its turn. Only the end of ctx is an error; a
// contender that fails is an absence.
func (l *Lab) take(ctx context.Context, c cell) error {
	if l.hopeless[c.at()] {
		return nil
	}
	s, err := l.turn(ctx, c)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		l.hopeless[c.at()] = true
		l.absent(Absence{
			Scenario: c.scenario.Name, Point: c.point.Name, Contender: c.contender.Name,
			Why: err.Error(), Failed: !errors.Is(err, errUnavailable),
		})
		l.Progress.Done("not measured: " + err.Error())
		return nil
	}
	l.Results.Samples = append(l.Results.Samples, s)
	l.Progress.Done(inWords(s))
	return nil
}

func inWords(s Sample) string {
	if s.Invalid != "" {
		return "INVALID: " + s.Invalid
	}
	if s.Scenario == "idle" {
		return fmt.Sprintf("%.0f B per connection", s.Server.PerConnection)
	}
	words := fmt.Sprintf("%.0f/s", s.Client.RPS)
	if s.Server.CPU > 0 {
		words += fmt.Sprintf(", %.2f µs CPU", s.Server.CPU)
	}
	if s.Client.Lag > 0 {
		words += fmt.Sprintf(", p99 %.0f µs", s.Client.Latency.P99)
	}
	return words
}

// errUnavailable marks what this machine can't do; it doesn't fail the run.
var errUnavailable = errors.New("can't be had here")

func (l *Lab) turn(ctx context.Context, c cell) (Sample, error) {
	if err := kernelTable.waitForRoom(ctx, c.newConnections(), roomWithin); err != nil {
		return Sample{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.duration()+turnSlack)
	defer cancel()
	env, remove, err := l.environment(ctx, c)
	if err != nil {
		return Sample{}, err
	}
	defer remove()
	t := &turnInput{
		point: c.point, duration: c.duration(), cores: c.client, warmUp: cmp.Or(l.WarmUp, warmUp),
		probe: c.scenario.ProbeSyscalls && c.round == 0,
	}
	if c.point.Load > 0 {
		if t.maximum, err = l.maximumOf(ctx, c, env); err != nil {
			return Sample{}, fmt.Errorf("its own maximum: %w", err)
		}
	}
	if l.Patient {
		waitForCalm(ctx)
	}
	began := time.Now()
	t.instance, err = c.contender.Start(ctx, env)
	if err != nil {
		return Sample{}, err
	}
	defer t.instance.Stop()
	s, err := c.scenario.turn(ctx, t)
	if err != nil {
		return Sample{}, err
	}
	s.Scenario, s.Point, s.Contender, s.Round, s.At = c.scenario.Name, c.point.Name, c.contender.Name, c.round, began
	if !c.scenario.KeepOutput {
		s.Output = ""
	}
	return s, nil
}

// waitForCalm returns when others use little of the machine, or after a while.
func waitForCalm(ctx context.Context) {
	const (
		little  = 0.05
		look    = 200 * time.Millisecond
		atLeast = 2 // looks in a row
	)
	deadline := time.Now().Add(turnSlack / 2)
	for calm := 0; calm < atLeast && ctx.Err() == nil && time.Now().Before(deadline); {
		if busyShare(ctx, look) > little {
			calm = 0
			continue
		}
		calm++
	}
}

func (l *Lab) environment(ctx context.Context, c cell) (contender.Env, func(), error) {
	env := l.Env
	env.Cores = c.server
	if c.scenario.Docker {
		if l.docker == nil {
			d, err := contender.NewDocker(ctx, env.Bin)
			if err != nil {
				return env, nil, fmt.Errorf("%w: %w", errUnavailable, err)
			}
			l.docker = d
		}
		env.Docker = l.docker
	}
	dir, remove, err := dataDir(env.Data)
	env.Data = dir
	return env, remove, err
}

// maximumOf finds a contender's closed-loop maximum at the same place: as the
// pinned scenario found it, else by a look of its own.
func (l *Lab) maximumOf(ctx context.Context, c cell, env contender.Env) (float64, error) {
	if rps := l.Results.Summary(At{"pinned", "c=100", c.contender.Name}, RPS); rps.N > 0 {
		return rps.Center, nil
	}
	if rps := l.maximum[c.contender.Name]; rps > 0 {
		return rps, nil
	}
	in, err := c.contender.Start(ctx, env)
	if err != nil {
		return 0, err
	}
	defer in.Stop()
	r, err := in.Load(ctx, load.Workload{
		Connections: c.point.Connections, Threads: 1, Duration: short, Cores: c.client,
	})
	l.maximum[c.contender.Name] = r.RPS
	return r.RPS, err
}

func newOrder(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
