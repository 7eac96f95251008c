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
	"github.com/counterd/counterd/bench/spin"
	"github.com/counterd/counterd/bench/stat"
)

// slack bounds a turn beyond its measurements: start, warm-up, settling.
const slack = time.Minute

// Lab runs a plan.
type Lab struct {
	Env      contender.Env // Data is the parent of each start's own directory
	Progress Progress
	Results  *Results
	// Saved is called after each turn and duel, so that little is lost.
	Saved func()
	// Score judges the HTTP contenders before anything is measured; nil: nobody does.
	Score Score
	// WarmUp is how long one warm-up takes; a second when zero.
	WarmUp time.Duration

	// look says how busy the machine is while we do nothing; nil: the kernel's word.
	look      func(context.Context, time.Duration) (machine, error)
	absentees map[string]error

	order     *rand.Rand
	until     time.Time // what is at hand may take no longer
	docker    *contender.Docker
	contained *contender.Cluster       // PostgreSQL in a container
	maximum   map[string]float64       // RPS by contender, for the open loop
	steps     map[time.Duration]uint64 // of work, so that all have the same
	hopeless  map[At]bool              // what failed isn't tried again
}

// Progress hears of what is done.
type Progress interface {
	// Next is called before each turn and duel: how many are done and of how
	// many, and the time left by the plan. All are zero before the first.
	Next(done, all int, left time.Duration, what string)
	// Pair is called after each pair of a duel.
	Pair(n int, rps stat.Interval)
	// Done is called after each turn and duel.
	Done(what string)
}

// place is a point of a scenario, with its cores.
type place struct {
	step           Step
	scenario       Scenario
	point          Point
	server, client []int
}

// job is a turn or a duel.
type job interface {
	run(ctx context.Context, l *Lab) error
	estimate() time.Duration
	String() string
}

// cell is one turn.
type cell struct {
	place
	contender contender.Contender
	round     int
}

// bout is one duel.
type bout struct {
	place
	contenders [2]contender.Contender
}

func (c cell) at() At { return At{c.scenario.Name, c.point.Name, c.contender.Name} }

func (c cell) String() string {
	return fmt.Sprintf("%s %s  %s", c.scenario.Name, c.point.Name, c.contender.Name)
}

func (b bout) String() string {
	return fmt.Sprintf("%s %s  %s : %s", b.scenario.Name, b.point.Name, b.contenders[0].Name, b.contenders[1].Name)
}

func (p place) duration() time.Duration { return p.step.duration() }

func (l *Lab) warmUp() time.Duration { return cmp.Or(l.WarmUp, warmUp) }

func (c cell) estimate() time.Duration {
	const startAndSettle = 700 * time.Millisecond
	d := c.duration() + 2*warmUp + startAndSettle
	switch {
	case c.scenario.Name == "idle":
		d = 4 * time.Second
	case c.point.Load+c.point.Rate > 0:
		d -= warmUp // one is enough where the rate is given
	}
	if c.scenario.ProbeSyscalls && c.round == 0 {
		d += warmUp
	}
	return d
}

// estimate is for the worst case, in which the interval stays wide; see Step.Longest.
func (b bout) estimate() time.Duration {
	const settle, start = 200 * time.Millisecond, 2 * time.Second
	d := 2*time.Duration(b.step.Pairs)*(b.duration()+settle) + 4*warmUp + start
	if b.point.Idle > 0 || b.point.Paths > 100_000 {
		d += 10 * time.Second
	}
	return d
}

// Estimate is how long the plan takes at most.
func (l *Lab) Estimate() time.Duration {
	var total time.Duration
	for _, s := range l.Results.Plan {
		jobs, _ := l.jobs(s)
		for _, j := range jobs {
			total += j.estimate()
		}
	}
	return total
}

// Describe fills in the contenders that the plan may meet, and why some can't
// take part at all.
func (l *Lab) Describe() {
	for _, c := range contender.All() {
		if !slices.ContainsFunc(l.Results.Plan, func(s Step) bool { return s.takesPart(c.Name) }) {
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
	l.steps = map[time.Duration]uint64{}
	l.hopeless = map[At]bool{}
	defer func() {
		if l.contained != nil {
			l.contained.Close()
		}
	}()

	if l.look == nil {
		l.look = lookFor
	}
	if err := l.score(ctx); err != nil {
		return err
	}
	all, done := 0, 0
	left := l.Estimate()
	end := time.Now().Add(left)
	for _, s := range l.Results.Plan {
		jobs, _ := l.jobs(s)
		all += len(jobs)
	}
	for _, step := range l.Results.Plan {
		jobs, absences := l.jobs(step)
		for _, a := range absences {
			l.absent(a)
		}
		l.shuffle(jobs)
		for _, j := range jobs {
			l.Progress.Next(done, all, left, j.String())
			left -= j.estimate()
			l.until = end.Add(-left)
			if err := j.run(ctx, l); err != nil {
				return err
			}
			done++
			l.Saved()
		}
	}
	return nil
}

// jobs lists the turns of a step, round by round, or its duels.
func (l *Lab) jobs(step Step) ([]job, []Absence) {
	sc, ok := ScenarioNamed(step.Scenario)
	if !ok {
		return nil, []Absence{{Scenario: step.Scenario, Why: "there is no such scenario", Failed: true}}
	}
	var jobs []job
	var absences []Absence
	for _, p := range sc.Points {
		if len(step.Points) > 0 && !slices.Contains(step.Points, p.Name) {
			continue
		}
		server, client, err := sc.placeOf(p)
		if err != nil {
			absences = append(absences, Absence{Scenario: sc.Name, Point: p.Name, Why: err.Error()})
			continue
		}
		at := place{step, sc, p, server, client}
		more, missing := l.jobsAt(at)
		jobs, absences = append(jobs, more...), append(absences, missing...)
	}
	return jobs, absences
}

func (l *Lab) jobsAt(at place) (jobs []job, absences []Absence) {
	fits := func(c contender.Contender) bool {
		if l.missing(c) != nil {
			return false // said once, for all scenarios
		}
		if err := at.refuses(c); err != nil {
			a := Absence{Scenario: at.scenario.Name, Point: at.point.Name, Contender: c.Name, Why: err.Error()}
			if !slices.Contains(absences, a) {
				absences = append(absences, a)
			}
			return false
		}
		return true
	}
	for round := range at.step.Rounds {
		for _, c := range contender.All() {
			if MatchesAny(at.step.Contenders, c.Name) && fits(c) {
				jobs = append(jobs, cell{at, c, round})
			}
		}
	}
	for _, d := range at.step.Duels {
		a, okA := contender.Named(d[0])
		b, okB := contender.Named(d[1])
		if okA && okB && fits(a) && fits(b) {
			jobs = append(jobs, bout{at, [2]contender.Contender{a, b}})
		}
	}
	return jobs, absences
}

// refuses says why the contender can't be measured there.
func (p place) refuses(c contender.Contender) error {
	if p.scenario.Refuses != nil {
		if err := p.scenario.Refuses(c); err != nil {
			return err
		}
	}
	const reserve = 200 // files that are no connections
	n := max(p.point.Connections, p.point.Idle) + reserve
	if c.MaxConnections > 0 && p.point.Connections > c.MaxConnections {
		return fmt.Errorf("takes %d connections", c.MaxConnections)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil // then the turn will tell
	}
	if uint64(n) > uint64(limit.Cur) {
		return fmt.Errorf("needs %d open files, the limit is %d", n, limit.Cur)
	}
	return nil
}

// shuffle mixes the turns inside each round and the duels of a step.
func (l *Lab) shuffle(jobs []job) {
	round := func(j job) int {
		if c, ok := j.(cell); ok {
			return c.round
		}
		return 0
	}
	l.order.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	slices.SortStableFunc(jobs, func(a, b job) int { return round(a) - round(b) })
}

// errUnavailable marks what this machine can't do; it doesn't fail the run.
var errUnavailable = errors.New("can't be had here")

// notMeasured keeps the reason. Only the end of ctx is an error.
func (l *Lab) notMeasured(ctx context.Context, p place, who string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.absent(Absence{
		Scenario: p.scenario.Name, Point: p.point.Name, Contender: who,
		Why: err.Error(), Failed: !errors.Is(err, errUnavailable),
	})
	l.Progress.Done("not measured: " + err.Error())
	return nil
}

// run gives one contender its turn.
func (c cell) run(ctx context.Context, l *Lab) error {
	if l.hopeless[c.at()] {
		l.Progress.Done("it failed before")
		return nil
	}
	s, err := l.turn(ctx, c)
	if err != nil {
		l.hopeless[c.at()] = true
		return l.notMeasured(ctx, c.place, c.contender.Name, err)
	}
	l.Results.Samples = append(l.Results.Samples, s.rounded())
	l.Progress.Done(s.words())
	return nil
}

func (s Sample) words() string {
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

// run fights one duel. What is stopped in its course keeps its pairs.
func (b bout) run(ctx context.Context, l *Lab) error {
	d := Duel{
		Scenario: b.scenario.Name, Point: b.point.Name,
		A: b.contenders[0].Name, B: b.contenders[1].Name, At: time.Now().UTC().Truncate(time.Second),
	}
	err := kernelTable.waitForRoom(ctx, 2*b.point.newConnections(), roomWithin)
	if err == nil {
		within := slack + 2*b.estimate()
		bounded, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not done within %v", within))
		err = l.fight(bounded, b, &d)
		if err != nil && bounded.Err() != nil {
			err = context.Cause(bounded)
		}
		cancel()
	}
	if err != nil && (ctx.Err() == nil || len(d.Pairs) == 0) {
		return l.notMeasured(ctx, b.place, d.A+" : "+d.B, err)
	}
	d.judge()
	l.Results.Duels = append(l.Results.Duels, d)
	l.Progress.Done(d.words())
	return ctx.Err()
}

func (d Duel) words() string {
	switch {
	case d.Invalid != "":
		return "INVALID: " + d.Invalid
	case d.NoClaim != "":
		return d.RPS.Format("%.3f") + ", no claim: " + d.NoClaim
	}
	return fmt.Sprintf("%s requests/s, %s CPU, %d pairs", d.RPS.Format("%.3f"), d.CPU.Format("%.3f"), len(d.Pairs))
}

func (l *Lab) turn(ctx context.Context, c cell) (Sample, error) {
	if err := kernelTable.waitForRoom(ctx, c.point.newConnections(), roomWithin); err != nil {
		return Sample{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.duration()+slack)
	defer cancel()
	env, remove, err := l.environment(ctx, c.place, c.contender)
	if err != nil {
		return Sample{}, err
	}
	defer remove()
	t := &turnInput{
		point: c.point, duration: c.duration(), cores: c.client, warmUp: l.warmUp(), last: -1,
		probe: c.scenario.ProbeSyscalls && c.round == 0,
	}
	if c.point.Load+c.point.Rate > 0 {
		if t.rate, err = l.rateFor(ctx, c, env); err != nil {
			return Sample{}, err
		}
	}
	began := time.Now().UTC().Truncate(time.Second)
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

// environment is what a contender is started with at the place.
func (l *Lab) environment(ctx context.Context, p place, c contender.Contender) (contender.Env, func(), error) {
	env := l.Env
	env.Cores = p.server
	env.Idle = p.point.Idle > 0
	if d := p.point.Work; d > 0 {
		if l.steps[d] == 0 {
			l.steps[d] = spin.Steps(d)
		}
		env.Work = l.steps[d]
	}
	if p.scenario.Docker {
		if l.docker == nil {
			d, err := contender.NewDocker(ctx)
			if err != nil {
				return env, nil, fmt.Errorf("%w: %w", errUnavailable, err)
			}
			l.docker = d
			l.contained = &contender.Cluster{Dir: env.Data, Docker: d}
		}
		env.Docker, env.Postgres = l.docker, l.contained
	}
	dir, remove, err := dataDir(env.Data)
	env.Data = dir
	return env, remove, err
}

// rateFor is the open loop's: the point's own, or a share of the contender's
// closed-loop maximum at the same place.
func (l *Lab) rateFor(ctx context.Context, c cell, env contender.Env) (float64, error) {
	const headroom = 1.1
	most, err := l.maximumOf(ctx, c, env)
	if err != nil {
		return 0, fmt.Errorf("its own maximum: %w", err)
	}
	if c.point.Load > 0 {
		return c.point.Load * most, nil
	}
	if most < headroom*c.point.Rate {
		return 0, fmt.Errorf("%w: it does %.0f requests a second at most", errUnavailable, most)
	}
	return c.point.Rate, nil
}

// maximumOf finds a contender's closed-loop maximum: as the pinned scenario
// found it, else by a look of its own.
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
