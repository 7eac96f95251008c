package lab

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/bench/contender"
	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/proc"
	"github.com/counterd/counterd/bench/stat"
)

// counting is a server whose counter, speed and life can be made wrong.
type counting struct {
	answered atomic.Int64
	// wrong changes what it tells, given the true count.
	wrong func(int64) int64
	// refuses all hits, and counts them.
	refuses bool
	// rate is what the nth load finds; nil: always the same.
	rate func(nth int) float64
	// diesAt is the load in which it ends; 0: never.
	diesAt int
	loads  int
}

func honest(n int64) int64 { return n }

func (c *counting) dead() bool { return c.diesAt > 0 && c.loads >= c.diesAt }

// instance needs neither a client nor a process of its own.
func (c *counting) instance() *contender.Instance {
	return &contender.Instance{
		Count: func(context.Context) (int64, error) {
			if c.dead() {
				return 0, errors.New("connection refused")
			}
			return c.wrong(c.answered.Load()), nil
		},
		Died: func() error {
			if c.dead() {
				return errors.New("signal: killed")
			}
			return nil
		},
		Load: c.load,
		Stop: func() {},
	}
}

func (c *counting) load(ctx context.Context, w load.Workload) (load.Result, error) {
	const requests = 1000
	c.loads++
	r := load.Result{Requests: requests, Elapsed: w.Duration, RPS: 5000, InFlight: int64(w.Connections)}
	if c.rate != nil {
		r.RPS = c.rate(c.loads)
	}
	if c.refuses {
		r.Errors.Status = requests
	}
	c.answered.Add(requests)
	return r, ctx.Err()
}

func turnFor(in *contender.Instance) *turnInput {
	return &turnInput{
		instance: in, point: Point{Connections: 4, Threads: 1},
		duration: 30 * time.Millisecond, warmUp: 10 * time.Millisecond, last: -1,
	}
}

func TestPlantedWrongCountersAreCaught(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		server  *counting
		invalid string // part of the reason; empty: valid
	}{
		{"honest", &counting{wrong: honest}, ""},
		{"loses one in ten", &counting{wrong: func(n int64) int64 { return n - n/10 }}, "the client completed"},
		{"counts a tenth twice", &counting{wrong: func(n int64) int64 { return n + n/10 }}, "at most 4 on the way"},
		{"stands still", &counting{wrong: func(int64) int64 { return 7 }}, "the server counted 0"},
		{"counts and refuses", &counting{wrong: honest, refuses: true}, "not answered with success"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := closedLoop(t.Context(), turnFor(c.server.instance()))
			if err != nil {
				t.Fatal(err)
			}
			if c.invalid == "" && s.Invalid != "" {
				t.Errorf("an honest server was called invalid: %s", s.Invalid)
			}
			if c.invalid != "" && !strings.Contains(s.Invalid, c.invalid) {
				t.Errorf("reason %q, want %q in it", s.Invalid, c.invalid)
			}
		})
	}
}

// Even one hit too few or too many is seen.
func TestVerifyIsExactAtItsBounds(t *testing.T) {
	r := load.Result{Requests: 1000, InFlight: 100}
	for counted, valid := range map[int64]bool{999: false, 1000: true, 1100: true, 1101: false, -1: true} {
		if got := Verify(r, counted) == ""; got != valid {
			t.Errorf("counted %d: valid %v, want %v", counted, got, valid)
		}
	}
	if Verify(load.Result{}, 0) == "" {
		t.Error("nothing was measured, and that passed")
	}
	if Verify(load.Result{Requests: 1, Backlog: 1}, 1) == "" {
		t.Error("an overloaded open loop passed")
	}
}

// A program that gets faster and faster is not measured while it does, one that
// needs a while is measured after it, and one that never ends is told.
func TestASlowStartIsNotMeasured(t *testing.T) {
	t.Parallel()
	after := func(n int, slow, fast float64) func(int) float64 {
		return func(nth int) float64 {
			if nth <= n {
				return slow
			}
			return fast
		}
	}
	for _, c := range []struct {
		name string
		rate func(nth int) float64
		want float64 // 0: it must be told
	}{
		{"grows for six loads", func(nth int) float64 { return 100 * float64(min(nth, 6)) }, 600},
		{"stands, then jumps", after(2, 100, 900), 900},
		{"never ends", func(nth int) float64 { return 100 * float64(nth*nth) }, 0},
	} {
		s, err := closedLoop(t.Context(), turnFor((&counting{wrong: honest, rate: c.rate}).instance()))
		switch {
		case c.want == 0 && !errors.Is(err, errUnsteady):
			t.Errorf("%s: %v with %v", c.name, err, s.Client.RPS)
		case c.want > 0 && (err != nil || s.Client.RPS != c.want):
			t.Errorf("%s: %.0f/s, %v; want %.0f", c.name, s.Client.RPS, err, c.want)
		}
	}
}

func TestIdleConnectionsAreCountedExactly(t *testing.T) {
	t.Parallel()
	var hits atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer s.Close()
	in := (&counting{}).instance()
	in.Addr = s.Listener.Addr().String()
	in.Count = func(context.Context) (int64, error) { return hits.Load() + hits.Load()/100, nil } // one in a hundred twice
	weighed, err := proc.Start(t.Context(), proc.Spec{Args: []string{"sleep", "60"}})
	if err != nil {
		t.Fatal(err)
	}
	defer weighed.Stop()
	in.Servers = []int{weighed.PID} // any process whose memory is calm
	turn := turnFor(in)
	turn.point.Connections = 200
	sample, err := idleMemory(t.Context(), turn)
	if err != nil {
		t.Skipf("memory can't be read here: %v", err)
	}
	if sample.Invalid == "" {
		t.Errorf("200 requests, the server counted %d, and that passed", sample.Counted)
	}
}

var fakes sync.Once

// registerFakes adds contenders for whole runs.
func registerFakes() {
	fakes.Do(func() {
		fake := func(name string, start func(context.Context, contender.Env) (*contender.Instance, error)) contender.Contender {
			return contender.Contender{Name: name, Title: name, Protocol: contender.HTTP, Kind: contender.Memory, Start: start}
		}
		with := func(c func() *counting) func(context.Context, contender.Env) (*contender.Instance, error) {
			return func(context.Context, contender.Env) (*contender.Instance, error) { return c().instance(), nil }
		}
		absent := fake("fake-absent", nil)
		absent.Needs = []string{"a-program-that-nobody-has"}
		contender.Register(
			fake("fake-honest", with(func() *counting { return &counting{wrong: honest} })),
			fake("fake-liar", with(func() *counting { return &counting{wrong: func(n int64) int64 { return n / 2 }} })),
			// Two warm-ups and a slice, and its end in the next.
			fake("fake-mortal", with(func() *counting { return &counting{wrong: honest, diesAt: 4} })),
			fake("fake-slow", with(func() *counting {
				return &counting{wrong: honest, rate: func(nth int) float64 { return 1000 * float64(nth*nth) }}
			})),
			fake("fake-late", with(func() *counting {
				return &counting{wrong: honest, rate: func(nth int) float64 {
					if nth < 10 {
						return 1000
					}
					return 9000
				}}
			})),
			fake("fake-even", with(func() *counting { return &counting{wrong: honest, rate: func(int) float64 { return 5000 }} })),
			fake("fake-broken", func(context.Context, contender.Env) (*contender.Instance, error) {
				return nil, errors.New("it does not start")
			}),
			fake("fake-restless", func(ctx context.Context, _ contender.Env) (*contender.Instance, error) {
				in := (&counting{wrong: honest, rate: func(int) float64 { return 5000 }}).instance()
				p, err := proc.Start(ctx, proc.Spec{Args: []string{"sh", "-c", "while :; do :; done"}})
				if err != nil {
					return nil, err
				}
				in.Servers, in.Stop = []int{p.PID}, p.Stop
				return in, nil
			}),
			absent,
		)
	})
}

type silent struct{}

func (silent) Next(int, int, time.Duration, string) {}
func (silent) Pair(int, stat.Interval)              {}
func (silent) Done(string)                          {}

func labWith(t *testing.T, steps ...Step) *Lab {
	registerFakes()
	l := &Lab{
		Env:      contender.Env{Data: t.TempDir()},
		Results:  &Results{Schema: SchemaVersion, Plan: steps, Seed: 1},
		Progress: silent{},
		Saved:    func() {},
		WarmUp:   5 * time.Millisecond,
		look: func(context.Context, time.Duration) (machine, error) {
			return machine{lasted: lookAround}, nil // whatever else this machine does
		},
	}
	l.Describe()
	return l
}

// quickly makes slices short.
func quickly(s Step) Step {
	s.Seconds = 0.01
	return s
}

func TestRunMarksLiarsAndSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	l := labWith(t, Turns("seed", "fake-honest", "fake-liar", "fake-broken", "fake-absent").Times(2, 20*time.Millisecond))
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := l.Results
	at := func(name string) At { return At{"seed", "c=100", name} }
	if got := r.Summary(at("fake-honest"), RPS); got.N != 2 {
		t.Errorf("the honest one has %d valid rounds, want 2", got.N)
	}
	if got := r.Summary(at("fake-liar"), RPS); got.N != 0 {
		t.Errorf("the liar's figures are used: %+v", got)
	}
	why := map[string]string{}
	for _, a := range r.NotMeasured {
		why[a.Contender] = a.Why
	}
	if !strings.Contains(why["fake-absent"], "a-program-that-nobody-has is not installed") {
		t.Errorf("the absent one: %q", why["fake-absent"])
	}
	if why["fake-broken"] != "it does not start" {
		t.Errorf("the broken one: %q", why["fake-broken"])
	}
	for _, find := range []struct {
		err  error
		name string
	}{{r.Wrong(), "fake-liar"}, {r.Failed(), "fake-broken"}} {
		if find.err == nil {
			t.Fatalf("the run must fail because of %s", find.name)
		}
		for line := range strings.Lines(find.err.Error()) {
			if !strings.Contains(line, find.name) {
				t.Errorf("%s is at fault: %s", find.name, line)
			}
		}
	}
}

func TestRunStopsWithItsContextAndKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	l := labWith(t, Turns("seed", "fake-honest").Times(50, 20*time.Millisecond))
	ctx, cancel := context.WithCancel(t.Context())
	l.Progress = stopAfter{turns: 3, stop: cancel, seen: new(int)}
	if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if n := len(l.Results.Samples); n != 3 {
		t.Errorf("%d samples kept, want 3", n)
	}
	if err := errors.Join(l.Results.Wrong(), l.Results.Failed()); err != nil {
		t.Errorf("what was stopped isn't wrong: %v", err)
	}
}

// stopAfter so many turns or pairs.
type stopAfter struct {
	turns, pairs int
	stop         func()
	seen         *int
}

func (s stopAfter) Next(int, int, time.Duration, string) {}

func (s stopAfter) Pair(n int, _ stat.Interval) {
	if n == s.pairs {
		s.stop()
	}
}

func (s stopAfter) Done(string) {
	if *s.seen++; *s.seen == s.turns {
		s.stop()
	}
}

func TestRoundsAreInterleavedAndShuffled(t *testing.T) {
	order := func(seed uint64) []string {
		l := labWith(t, Turns("open", "fake-*").Times(4, time.Second))
		l.order = newOrder(seed)
		jobs, _ := l.jobs(l.Results.Plan[0])
		l.shuffle(jobs)
		var names []string
		last := 0
		for _, j := range jobs {
			c := j.(cell)
			if c.round < last {
				t.Fatal("a turn left its round")
			}
			last = c.round
			names = append(names, c.String())
		}
		return names
	}
	first, again, other := order(1), order(1), order(2)
	if len(first) == 0 {
		t.Skip("needs two cores")
	}
	if !slices.Equal(first, again) {
		t.Error("the same seed gives another order")
	}
	if slices.Equal(first, other) {
		t.Error("another seed gives the same order")
	}
	turns := len(first) / 4
	if slices.Equal(first[:turns], first[turns:2*turns]) {
		t.Error("two rounds have the same order")
	}
}

func TestEveryPlanNamesWhatExists(t *testing.T) {
	for _, mode := range []string{ModeDefault, ModeQuick, ModeFull, ModeDocker, ModeCheck} {
		plan, err := PlanFor(mode)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range plan {
			sc, ok := ScenarioNamed(step.Scenario)
			if !ok {
				t.Errorf("%s: no scenario %s", mode, step.Scenario)
			}
			for _, p := range step.Points {
				if !slices.ContainsFunc(sc.Points, func(q Point) bool { return q.Name == p }) {
					t.Errorf("%s: %s has no point %s", mode, step.Scenario, p)
				}
			}
			for _, d := range step.Duels {
				step.Contenders = append(step.Contenders, d[:]...)
			}
			for _, pattern := range step.Contenders {
				if !slices.ContainsFunc(contender.All(), func(c contender.Contender) bool { return MatchesAny([]string{pattern}, c.Name) }) {
					t.Errorf("%s: %s: nobody is called %s", mode, step.Scenario, pattern)
				}
			}
		}
	}
}

// Every promise is measured by the plan that judges it.
func TestEveryPromiseHasItsDuel(t *testing.T) {
	for name, plan := range map[string][]Step{ModeCheck: checkPlan(), ModeFull: fullPlan()} {
		for _, p := range promises {
			if !slices.ContainsFunc(plan, func(s Step) bool {
				return s.Scenario == p.scenario && (len(s.Points) == 0 || slices.Contains(s.Points, p.point)) &&
					slices.Contains(s.Duels, [2]string{p.a, p.b})
			}) {
				t.Errorf("%s never measures %q", name, p.title)
			}
		}
	}
}

func TestChooseRefusesTheUnknown(t *testing.T) {
	plan := fullPlan()
	if _, err := Choose(plan, []string{"nonsense"}, nil); err == nil {
		t.Error("an unknown scenario passed")
	}
	if _, err := Choose(plan, nil, []string{"gnet-mem", "nobody-*"}); err == nil {
		t.Error("an unknown contender passed")
	}
	chosen, err := Choose(plan, []string{"idle"}, []string{"gnet-*"})
	if err != nil || len(chosen) != 1 || !slices.Contains(chosen[0].Contenders, "gnet-mem") || slices.Contains(chosen[0].Contenders, "epoll") {
		t.Errorf("turns need no duel: %+v, %v", chosen, err)
	}
	chosen, err = Choose(plan, []string{"churn"}, []string{"fasthttp", "std-mem", "nbio"})
	if err != nil || len(chosen) != 2 || chosen[0].Scenario != "noise" {
		t.Fatalf("a duel needs the noise: %+v, %v", chosen, err)
	}
	if want := [][2]string{{"fasthttp", "std-mem"}, {"fasthttp", "nbio"}}; !slices.Equal(chosen[1].Duels, want) {
		t.Errorf("duels %v, want the first named against each other one", chosen[1].Duels)
	}
}

func TestEveryModeEndsInTime(t *testing.T) {
	limits := map[string]time.Duration{ModeQuick: 110 * time.Second, ModeDefault: 15 * time.Minute, ModeDocker: 15 * time.Minute, ModeCheck: 9 * time.Minute, ModeFull: 80 * time.Minute}
	for mode, limit := range limits {
		plan, err := PlanFor(mode)
		if err != nil {
			t.Fatal(err)
		}
		l := &Lab{Results: &Results{Plan: plan}, absentees: everybody()}
		if took := l.Estimate(); took > limit || took == 0 {
			t.Errorf("%s takes %v, at most %v were promised", mode, took, limit)
		}
	}
}

// everybody is there, on paper, whatever this machine lacks.
func everybody() map[string]error {
	all := map[string]error{}
	for _, c := range contender.All() {
		all[c.Name] = nil
	}
	return all
}

func TestScoresAreSharedByAStack(t *testing.T) {
	l := labWith(t, Turns("seed", "fake-honest", "fake-even", "fake-broken").Times(1, 10*time.Millisecond))
	asked := 0
	l.Score = func(context.Context, string) (kept, all int, failed []string, err error) {
		asked++
		return 7, 9, []string{"one", "other"}, nil
	}
	if err := l.score(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked != 2 {
		t.Errorf("%d servers were judged, want 2", asked)
	}
	if a := l.Results.About("fake-honest"); a.Kept != 7 || a.Rules != 9 {
		t.Errorf("got %+v", a)
	}
	if a := l.Results.About("fake-broken"); a.Rules != 0 || a.Unscored != "it does not start" {
		t.Errorf("got %+v", a)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	r := &Results{Schema: SchemaVersion, Run: "x",
		Samples: []Sample{{Scenario: "a", Client: load.Result{RPS: 1}, Server: Server{CPU: 2}}, {Scenario: "b"}},
		Duels:   []Duel{{A: "x", B: "y", Pairs: []Pair{{{1, 2, 3}, {4, 5, 6.123456789}}}}},
	}
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Run != "x" || len(got.Samples) != 2 || got.Samples[0].Server.CPU != 2 {
		t.Errorf("got %+v", got)
	}
	if len(got.Duels) != 1 || !slices.Equal(got.Duels[0].Pairs, []Pair{{{1, 2, 3}, {4, 5, 6.1235}}}) {
		t.Errorf("got %+v", got.Duels)
	}
	b, err := os.ReadFile(filepath.Join(dir, ResultsFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), `"scenario"`); n != strings.Count(string(b), "\n  {") {
		t.Errorf("%d samples and duels, not a line each:\n%s", n, b)
	}
	r.Schema = 99
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a schema of the future was read")
	}
}
