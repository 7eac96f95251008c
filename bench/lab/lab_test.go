package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// counting is a server whose counter can be made wrong.
type counting struct {
	answered atomic.Int64
	// wrong changes what /count tells, given the true count.
	wrong func(int64) int64
	// status of each hit; 200 when zero.
	status int
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/count" {
		fmt.Fprintln(w, c.wrong(c.answered.Load()))
		return
	}
	n := c.answered.Add(1)
	if c.status != 0 {
		w.WriteHeader(c.status)
	}
	fmt.Fprintln(w, n)
}

func honest(n int64) int64 { return n }

// instance loads the server with a closed loop in Go, so that the tests need
// neither wrk nor a second process.
func (c *counting) instance(t testing.TB) *contender.Instance {
	t.Helper()
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	count := func(ctx context.Context) (n int64, err error) {
		r, err := s.Client().Get(s.URL + "/count")
		if err != nil {
			return 0, err
		}
		defer r.Body.Close()
		_, err = fmt.Fscan(r.Body, &n)
		return n, err
	}
	return &contender.Instance{
		Addr: s.Listener.Addr().String(), Count: count, Stop: s.Close,
		Load: func(ctx context.Context, w load.Workload) (load.Result, error) {
			return drive(ctx, s, w)
		},
	}
}

// drive loads s for as long as w says, and until there is enough to tell a tenth
// from what may be on the way.
func drive(ctx context.Context, s *httptest.Server, w load.Workload) (load.Result, error) {
	var done, bad atomic.Int64
	var clients sync.WaitGroup
	began := time.Now()
	for range w.Connections {
		clients.Go(func() {
			for ctx.Err() == nil && (time.Since(began) < w.Duration || done.Load() < 200) {
				r, err := s.Client().Get(s.URL)
				if err != nil {
					return
				}
				r.Body.Close()
				done.Add(1)
				if r.StatusCode >= 400 {
					bad.Add(1)
				}
			}
		})
	}
	clients.Wait()
	elapsed := time.Since(began)
	return load.Result{
		Requests: done.Load(), Elapsed: elapsed, RPS: float64(done.Load()) / elapsed.Seconds(),
		Errors: load.Errors{Status: bad.Load()}, InFlight: int64(w.Connections),
	}, nil
}

func turnFor(in *contender.Instance) *turnInput {
	return &turnInput{
		instance: in, point: Point{Connections: 4, Threads: 1},
		duration: 30 * time.Millisecond, warmUp: 10 * time.Millisecond,
	}
}

func TestPlantedWrongCountersAreCaught(t *testing.T) {
	for _, c := range []struct {
		name    string
		server  *counting
		invalid string // part of the reason; empty: valid
	}{
		{"honest", &counting{wrong: honest}, ""},
		{"loses one in ten", &counting{wrong: func(n int64) int64 { return n - n/10 }}, "the client completed"},
		{"counts a tenth twice", &counting{wrong: func(n int64) int64 { return n + n/10 }}, "at most 4 on the way"},
		{"stands still", &counting{wrong: func(int64) int64 { return 7 }}, "the server counted 0"},
		{"counts and refuses", &counting{wrong: honest, status: 503}, "not answered with success"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := closedLoop(t.Context(), turnFor(c.server.instance(t)))
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

func TestIdleConnectionsAreCountedExactly(t *testing.T) {
	in := (&counting{wrong: func(n int64) int64 { return n + n/100 }}).instance(t)
	weighed, err := proc.Start(t.Context(), proc.Spec{Args: []string{"sleep", "60"}})
	if err != nil {
		t.Fatal(err)
	}
	defer weighed.Stop()
	in.Servers = []int{weighed.PID} // any process whose memory is calm
	turn := turnFor(in)
	turn.point.Connections = 200
	s, err := idleMemory(t.Context(), turn)
	if err != nil {
		t.Skipf("memory can't be read here: %v", err)
	}
	if s.Invalid == "" {
		t.Errorf("200 requests, the server counted %d, and that passed", s.Counted)
	}
}

var fakes sync.Once

// fake contenders, for whole runs.
func registerFakes(t *testing.T) {
	fakes.Do(func() {
		start := func(c func() *counting) func(context.Context, contender.Env) (*contender.Instance, error) {
			return func(context.Context, contender.Env) (*contender.Instance, error) { return c().instance(t), nil }
		}
		contender.Register(
			contender.Contender{Name: "fake-honest", Protocol: contender.HTTP, Kind: contender.Memory,
				Start: start(func() *counting { return &counting{wrong: honest} })},
			contender.Contender{Name: "fake-liar", Protocol: contender.HTTP, Kind: contender.Memory,
				Start: start(func() *counting { return &counting{wrong: func(n int64) int64 { return n / 2 }} })},
			contender.Contender{Name: "fake-broken", Protocol: contender.HTTP, Kind: contender.Memory,
				Start: func(context.Context, contender.Env) (*contender.Instance, error) {
					return nil, errors.New("it does not start")
				}},
			contender.Contender{Name: "fake-absent", Protocol: contender.HTTP, Kind: contender.Memory,
				Needs: []string{"a-program-that-nobody-has"}},
		)
	})
}

type silent struct{}

func (silent) Turn(int, int, time.Duration, string) {}
func (silent) Done(string)                          {}

func labWith(t *testing.T, steps ...Step) *Lab {
	registerFakes(t)
	return &Lab{
		Env:      contender.Env{Data: t.TempDir()},
		Results:  &Results{Schema: SchemaVersion, Plan: steps, Seed: 1},
		Progress: silent{},
		Saved:    func() {},
		WarmUp:   5 * time.Millisecond,
	}
}

func TestRunMarksLiarsAndSaysWhatIsMissing(t *testing.T) {
	l := labWith(t, NewStep("seed", "fake-*").Times(2, 20*time.Millisecond))
	l.Describe()
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
	l := labWith(t, NewStep("seed", "fake-honest").Times(50, 20*time.Millisecond))
	l.Describe()
	ctx, cancel := context.WithCancel(t.Context())
	l.Progress = stopAfter{n: 3, stop: cancel, seen: new(int)}
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

type stopAfter struct {
	n    int
	stop func()
	seen *int
}

func (s stopAfter) Turn(int, int, time.Duration, string) {}

func (s stopAfter) Done(string) {
	if *s.seen++; *s.seen == s.n {
		s.stop()
	}
}

func TestRoundsAreInterleavedAndShuffled(t *testing.T) {
	l := labWith(t)
	order := func(seed uint64) []string {
		l.order = newOrder(seed)
		cells, _ := l.cells(NewStep("connections", "fake-honest", "fake-liar").Times(4, time.Second))
		l.shuffle(cells)
		var names []string
		last := 0
		for _, c := range cells {
			if c.round < last {
				t.Fatal("a turn left its round")
			}
			last = c.round
			names = append(names, c.point.Name+c.contender.Name)
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
			for _, pattern := range step.Contenders {
				if !slices.ContainsFunc(contender.All(), func(c contender.Contender) bool { return MatchesAny([]string{pattern}, c.Name) }) {
					t.Errorf("%s: %s: nobody is called %s", mode, step.Scenario, pattern)
				}
			}
		}
	}
}

func TestChooseRefusesWhatDoesNotExist(t *testing.T) {
	plan, err := PlanFor(ModeFull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Choose(plan, []string{"nonsense"}, nil); err == nil {
		t.Error("an unknown scenario passed")
	}
	if _, err := Choose(plan, nil, []string{"gnet-mem", "nobody-*"}); err == nil {
		t.Error("an unknown contender passed")
	}
	chosen, err := Choose(plan, []string{"churn", "idle"}, []string{"gnet-*"})
	if err != nil {
		t.Fatal(err)
	}
	if len(chosen) != 2 || chosen[0].Scenario != "churn" || chosen[1].Scenario != "idle" || chosen[0].Contenders[0] != "gnet-*" {
		t.Errorf("got %+v", chosen)
	}
}

func TestEveryModeEndsInTime(t *testing.T) {
	limits := map[string]time.Duration{ModeQuick: 2 * time.Minute, ModeDefault: 15 * time.Minute, ModeCheck: 10 * time.Minute, ModeFull: 40 * time.Minute}
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

// sample is a made-up one for the judgements below.
func sample(at At, round int, rps, cpu float64) Sample {
	return Sample{
		Scenario: at.Scenario, Point: at.Point, Contender: at.Contender, Round: round,
		Client: load.Result{RPS: rps, Requests: 1}, Server: Server{CPU: cpu},
	}
}

func TestChecksAreJudgedByRatiosInsideRounds(t *testing.T) {
	r := &Results{Mode: ModeCheck}
	// The machine slows down threefold from round to round; the ratio stays.
	for round, slow := range []float64{1, 3, 9} {
		r.Samples = append(r.Samples,
			sample(At{"pinned", "c=100", "gnet-mem"}, round, 150_000/slow, 6*slow),
			sample(At{"pinned", "c=100", "epoll"}, round, 160_000/slow, 5.2*slow),
			sample(At{"pinned", "c=100", "std-mem"}, round, 90_000/slow, 9*slow),
			sample(At{"pinned", "c=100", "gnet-file"}, round, 130_000/slow, 7*slow),
		)
	}
	want := map[string]bool{
		"pinned: CPU per request, gnet in memory : C epoll":   true,  // 1.15 ≤ 1.20
		"pinned: CPU per request, std : gnet, both in memory": false, // 1.50 < 1.60
		"pinned: RPS on gnet, durable file : memory":          true,  // 0.87 ≥ 0.80
	}
	missing := 0
	for _, c := range RunChecks(r) {
		if c.Why != "" {
			missing++
			if c.Pass {
				t.Errorf("%s passes without having been measured", c.Title)
			}
			continue
		}
		if c.Pass != want[c.Title] {
			t.Errorf("%s: pass %v with %+v", c.Title, c.Pass, c.Ratio)
		}
		if c.Ratio.Hi-c.Ratio.Lo > 1e-9 {
			t.Errorf("%s: drift of the machine leaked into the ratio: %+v", c.Title, c.Ratio)
		}
	}
	if missing != 6 {
		t.Errorf("%d checks can't be judged, want 6", missing)
	}
}

func TestOneConnectionIsJudgedByTheDisk(t *testing.T) {
	r := &Results{Mode: ModeCheck}
	at := func(name string) At { return At{"connections", "c=1", name} }
	r.Samples = []Sample{
		sample(at("gnet-mem"), 0, 25_000, 1),   // 40 µs
		sample(at("fdatasync"), 0, 12_500, 1),  // 80 µs
		sample(at("gnet-file"), 0, 1e6/132, 1), // 132 µs = 1.10 × 120
	}
	c := turnCheck(r)
	if !c.Pass || c.Ratio.Center < 1.099 || c.Ratio.Center > 1.101 {
		t.Errorf("got %+v", c)
	}
}

func TestNoiseIsTheWorstOfTheInterval(t *testing.T) {
	r := &Results{}
	for round, x := range []float64{1.01, 0.96, 1.02} {
		r.Samples = append(r.Samples,
			sample(At{"noise", "once", "x"}, round, 100, 1), sample(At{"noise", "again", "x"}, round, 100*x, 1))
	}
	if got := r.Noise(RPS); got < 0.0399 || got > 0.0401 {
		t.Errorf("noise %v, want 0.04", got)
	}
	if got := stat.Judge(stat.Interval{Center: 1.03, Lo: 1.02, Hi: 1.04, N: 5}, r.Noise(RPS)); got != stat.NoDifference {
		t.Errorf("3 %% on a machine with 4 %% noise: %v", got)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	r := &Results{Schema: SchemaVersion, Run: "x", Samples: []Sample{sample(At{"a", "b", "c"}, 0, 1, 2)}}
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Run != "x" || len(got.Samples) != 1 || got.Samples[0].Server.CPU != 2 {
		t.Errorf("got %+v", got)
	}
	r.Schema = 99
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a schema of the future was read")
	}
}
