package lab

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/stat"
)

// fight runs one duel of the fakes and returns it; nil: there is none.
func fightOf(t *testing.T, pairs int, a, b string) (*Duel, *Results) {
	t.Helper()
	l := labWith(t, quickly(Duels("seed", pairs, [2]string{a, b})))
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(l.Results.Duels) == 0 {
		return nil, l.Results
	}
	return &l.Results.Duels[0], l.Results
}

func TestADuelOfEqualsEndsWhenItIsSure(t *testing.T) {
	t.Parallel()
	d, r := fightOf(t, 40, "fake-even", "fake-even")
	if d == nil || d.Invalid != "" {
		t.Fatalf("got %+v, %v", d, r.NotMeasured)
	}
	// CPU isn't known of a server within the test, so it can't end early by it.
	if d.RPS.Center != 1 || d.RPS.Lo != 1 || d.RPS.Hi != 1 || d.RPS.Kind != stat.Confidence95 {
		t.Errorf("ratio %+v", d.RPS)
	}
}

func TestAPlantedWrongCounterEndsADuel(t *testing.T) {
	t.Parallel()
	d, r := fightOf(t, 10, "fake-honest", "fake-liar")
	if d == nil || !strings.Contains(d.Invalid, "fake-liar: the server counted") {
		t.Fatalf("got %+v", d)
	}
	if r.Wrong() == nil {
		t.Error("the run passes")
	}
	if _, ok := r.Duel("seed", "c=100", "fake-honest", "fake-liar"); ok {
		t.Error("its figures can be used")
	}
}

func TestADeathInASliceIsTold(t *testing.T) {
	t.Parallel()
	d, r := fightOf(t, 10, "fake-mortal", "fake-even")
	if d != nil {
		t.Errorf("the dead one is ranked: %+v", d)
	}
	if err := r.Failed(); err == nil || !strings.Contains(err.Error(), "fake-mortal: it died in a slice: signal: killed") {
		t.Errorf("got %v", err)
	}
}

func TestADuelWithOneThatDoesNotStartIsTold(t *testing.T) {
	t.Parallel()
	d, r := fightOf(t, 10, "fake-even", "fake-broken")
	if err := r.Failed(); d != nil || err == nil || !strings.Contains(err.Error(), "fake-broken: it does not start") {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestAPlantedSlowStartIsTold(t *testing.T) {
	t.Parallel()
	d, r := fightOf(t, 10, "fake-slow", "fake-even")
	if err := r.Failed(); d != nil || err == nil || !strings.Contains(err.Error(), "fake-slow: it still gets faster") {
		t.Errorf("one that gets faster all the time: %+v, %v", d, err)
	}
	// One that stands still while it is warmed, and then jumps.
	d, r = fightOf(t, 14, "fake-late", "fake-even")
	if d == nil || !strings.Contains(d.NoClaim, "in the course of it") {
		t.Fatalf("one that is late: %+v", d)
	}
	if got := r.Judge(*d, RatioRPS); got != stat.NoClaim {
		t.Errorf("and is ranked: %v", got)
	}
}

func TestTheRestingOneMustRest(t *testing.T) {
	t.Parallel()
	d, _ := fightOf(t, 10, "fake-restless", "fake-even")
	if d == nil || !strings.Contains(d.NoClaim, "the resting one used") {
		t.Errorf("got %+v", d)
	}
}

// What counts while nobody asks is wrong, however little it is.
func TestACountThatMovesWhileItRestsIsTold(t *testing.T) {
	t.Parallel()
	c := &counting{wrong: honest}
	turn := turnFor(c.instance())
	observe := func() Sample {
		s, err := turn.observe(t.Context(), func() (load.Result, error) {
			return turn.instance.Load(t.Context(), turn.workload(turn.duration))
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := observe(); s.Invalid != "" {
		t.Fatal(s.Invalid)
	}
	if s := observe(); s.Invalid != "" {
		t.Fatal(s.Invalid)
	}
	c.answered.Add(1)
	if s := observe(); !strings.Contains(s.Invalid, "though nobody asked") {
		t.Errorf("got %q", s.Invalid)
	}
}

func TestABusyMachineClaimsNothing(t *testing.T) {
	quiet := made(24, 1.5, 0.005)
	quiet.judge()
	if quiet.NoClaim != "" {
		t.Fatalf("a quiet one: %q", quiet.NoClaim)
	}
	busy := quiet
	busy.Others = 0.34
	busy.judge()
	noise := made(24, 1, 0.005)
	noise.A, noise.B = "x", "x"
	noise.judge()
	r := &Results{Duels: []Duel{noise}}
	if got := r.Judge(quiet, RatioRPS); got != stat.Higher {
		t.Errorf("the quiet one: %v", got)
	}
	if got := r.Judge(busy, RatioRPS); got != stat.NoClaim || !strings.Contains(busy.NoClaim, "others used 34 %") {
		t.Errorf("the busy one: %v, %q", got, busy.NoClaim)
	}
	if got := (&Results{}).Judge(quiet, RatioRPS); got != stat.NoClaim {
		t.Errorf("without a measured noise: %v", got)
	}
}

func TestNoiseIsTheWorstOfTheIntervals(t *testing.T) {
	one, other := made(24, 1, 0.005), made(24, 0.96, 0)
	for _, d := range []*Duel{&one, &other} {
		d.A, d.B = "x", "x"
		d.judge()
	}
	r := &Results{Duels: []Duel{one, other}}
	noise, ok := r.Noise(RatioRPS)
	if !ok || math.Abs(noise-0.04) > 0.001 {
		t.Errorf("noise %v, want 0.04", noise)
	}
	three := made(24, 1.03, 0.001)
	three.judge()
	if got := r.Judge(three, RatioRPS); got != stat.NoDifference {
		t.Errorf("3 %% on a machine with 4 %% noise: %v", got)
	}
}

// made is a duel of made-up pairs whose ratio wobbles around center.
func made(pairs int, center, wobble float64) Duel {
	rng := rand.New(rand.NewPCG(1, 2))
	d := Duel{Scenario: "pinned", Point: "c=100", A: "a", B: "b"}
	for range pairs {
		r := center * (1 + wobble*rng.NormFloat64())
		slow := 1 + rng.Float64() // the machine, which both meet
		d.Pairs = append(d.Pairs, Pair{{1000 * r / slow, slow / r, 5}, {1000 / slow, slow, 5}})
	}
	return d
}

// The machine's drift must cancel inside a pair, and steady ones end early.
func TestRatiosArePairedAndEndADuel(t *testing.T) {
	d := made(10, 1.2, 0.003)
	d.judge()
	if d.RPS.Center < 1.19 || d.RPS.Center > 1.21 || d.RPS.Width() > 0.01 {
		t.Errorf("got %+v", d.RPS)
	}
	if !d.settled() {
		t.Error("±1 % isn't sure enough")
	}
	d.Pairs = d.Pairs[:8]
	if d.settled() {
		t.Error("eight pairs are enough")
	}
	if d := made(24, 1.2, 0.2); d.settled() {
		t.Error("±10 % is sure enough")
	}
}

// One that isn't sure at its bound goes on, where the step and the time let it.
func TestAWideDuelGoesOn(t *testing.T) {
	step := Duels("pinned", 24)
	for _, tc := range []struct {
		pairs  int
		wobble float64
		step   Step
		time   bool
		over   bool
	}{
		{22, 0.2, step, true, false},
		{24, 0.2, step, true, true},
		{24, 0.2, step.Longer(), true, false},
		{24, 0.2, step.Longer(), false, true},
		{24, 0.05, step.Longer(), true, true}, // ±3 %
		{72, 0.2, step.Longer(), true, true},
		{12, 0.003, step.Longer(), true, true},
	} {
		if d := made(tc.pairs, 1.2, tc.wobble); d.over(tc.step, tc.time) != tc.over {
			t.Errorf("%+v: over is %t", tc, !tc.over)
		}
	}
}

func TestADuelThatIsStoppedKeepsItsPairs(t *testing.T) {
	t.Parallel()
	l := labWith(t, quickly(Duels("seed", 30, [2]string{"fake-even", "fake-honest"})))
	ctx, cancel := context.WithCancel(t.Context())
	l.Progress = stopAfter{pairs: 3, stop: cancel, seen: new(int)}
	if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if len(l.Results.Duels) != 1 || len(l.Results.Duels[0].Pairs) != 3 || l.Results.Duels[0].NoClaim == "" {
		t.Errorf("got %+v", l.Results.Duels)
	}
	if err := errors.Join(l.Results.Wrong(), l.Results.Failed()); err != nil {
		t.Errorf("what was stopped isn't wrong: %v", err)
	}
}

func TestChecksAreJudgedByDuels(t *testing.T) {
	r := &Results{Mode: ModeCheck}
	add := func(scenario, point, a, b string, rps float64) {
		d := made(16, rps, 0.002)
		d.Scenario, d.Point, d.A, d.B = scenario, point, a, b
		d.judge()
		r.Duels = append(r.Duels, d)
	}
	add("pinned", "c=100", "gnet-file", "epoll-file", 0.95)  // ≥ 0.92
	add("connections", "c=1", "gnet-file", "epoll-file", .9) // < 0.95
	add("pinned", "c=100", "gnet-mem", "epoll", 1/1.1)       // CPU 1.1 ≤ 1.2
	want := map[string]bool{
		"pinned: requests/s, gnet : C, both with a durable file":         true,
		"one connection: requests/s, gnet : C, both with a durable file": false,
		"pinned: CPU per request, gnet in memory : C on epoll":           true,
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
	}
	if missing != len(promises)+1-len(want) {
		t.Errorf("%d checks can't be judged", missing)
	}
	if (Check{Pass: true, Limit: 0.92, Ratio: stat.Interval{Center: 0.93, Lo: 0.90, Hi: 0.95}}).Sure() {
		t.Error("an interval that reaches beyond the limit is sure")
	}
}
