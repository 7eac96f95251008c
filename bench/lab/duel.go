package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/counterd/counterd/bench/contender"
	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/proc"
	"github.com/counterd/counterd/bench/stat"
)

const (
	// fewestPairs make a 95 % interval that is worth its name.
	fewestPairs = 10
	// narrow is the half-width of an interval that ends a duel.
	narrow = 0.02
	// wide is that of one that says little: see Step.Longest.
	wide = 0.03
	// restingLimit is the share of one core that the resting one may use.
	restingLimit = 0.02
	// othersLimit is the share of the machine that others may use.
	othersLimit = 0.10
	// driftLimit is how far the halves of a duel may be apart, if their
	// intervals don't meet.
	driftLimit = 0.05
	// lookAround is how long nobody works before a pair, to see whether others do.
	lookAround = 50 * time.Millisecond
)

// Duel compares two contenders that are up side by side and get the load in
// alternate slices: A B B A …
type Duel struct {
	Scenario string    `json:"scenario"`
	Point    string    `json:"point"`
	A        string    `json:"a"`
	B        string    `json:"b"`
	At       time.Time `json:"at"`
	// Invalid says why the figures must not be used; empty: they may.
	Invalid string `json:"invalid,omitempty"`
	// NoClaim says why right figures don't allow a claim; empty: they do.
	NoClaim string `json:"no_claim,omitempty"`
	// Medians of A's figure over B's, pair by pair. CPU is the server's and its
	// database's.
	RPS stat.Interval `json:"rps"`
	CPU stat.Interval `json:"cpu"`
	P99 stat.Interval `json:"p99"`
	// Resting is the share of a core that the resting one used, Others the share
	// of the machine that others used while both rested.
	Resting float64 `json:"resting_share"`
	Others  float64 `json:"others_share"`
	Pairs   []Pair  `json:"pairs"`
}

func (d Duel) String() string { return fmt.Sprintf("%s %s, %s : %s", d.Scenario, d.Point, d.A, d.B) }

// Pair is one slice of each, side by side.
type Pair [2]Slice

// Slice is what one slice of load gave: requests per second, CPU in µs per
// request, and the client's 99th percentile in µs.
type Slice struct{ RPS, CPU, P99 float64 }

// MarshalJSON writes six numbers: A's, then B's.
func (p Pair) MarshalJSON() ([]byte, error) {
	var flat []float64
	for _, s := range p {
		flat = append(flat, stat.Round(s.RPS, 5), stat.Round(s.CPU, 5), stat.Round(s.P99, 5))
	}
	return json.Marshal(flat)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Pair) UnmarshalJSON(b []byte) error {
	var flat [6]float64
	if err := json.Unmarshal(b, &flat); err != nil {
		return err
	}
	*p = Pair{{flat[0], flat[1], flat[2]}, {flat[3], flat[4], flat[5]}}
	return nil
}

// The figures of a slice.
func sliceRPS(s Slice) float64 { return s.RPS }
func sliceCPU(s Slice) float64 { return s.CPU }
func sliceP99(s Slice) float64 { return s.P99 }

func ratios(pairs []Pair, figure func(Slice) float64) stat.Interval {
	var all []float64
	for _, p := range pairs {
		if b := figure(p[1]); b > 0 && figure(p[0]) > 0 {
			all = append(all, figure(p[0])/b)
		}
	}
	return stat.Summarize(all).Rounded()
}

// Median of A's (0) or B's (1) figures.
func (d Duel) Median(who int) Slice {
	median := func(figure func(Slice) float64) float64 {
		var all []float64
		for _, p := range d.Pairs {
			all = append(all, figure(p[who]))
		}
		return stat.Summarize(all).Center
	}
	return Slice{median(sliceRPS), median(sliceCPU), median(sliceP99)}
}

// judge fills in the ratios, and why they allow no claim.
func (d *Duel) judge() {
	d.RPS, d.CPU, d.P99 = ratios(d.Pairs, sliceRPS), ratios(d.Pairs, sliceCPU), ratios(d.Pairs, sliceP99)
	d.NoClaim = d.obstacle()
}

func (d *Duel) obstacle() string {
	switch {
	case d.RPS.Kind != stat.Confidence95:
		return fmt.Sprintf("%d pairs are too few", len(d.Pairs))
	case d.Others > othersLimit:
		return fmt.Sprintf("others used %.0f %% of the machine", 100*d.Others)
	case d.Resting > restingLimit:
		return fmt.Sprintf("the resting one used %.1f %% of a core", 100*d.Resting)
	}
	half := len(d.Pairs) / 2
	early, late := ratios(d.Pairs[:half], sliceRPS), ratios(d.Pairs[half:], sliceRPS)
	if half >= fewestPairs/2 && !early.Overlaps(late) && max(early.Center/late.Center, late.Center/early.Center) > 1+driftLimit {
		return fmt.Sprintf("the ratio of requests per second went from %.2f to %.2f in the course of it", early.Center, late.Center)
	}
	return ""
}

// over reports whether the duel has come to its end. Where there is time, one whose
// interval is wide goes on.
func (d *Duel) over(s Step, time bool) bool {
	most := s.Pairs
	if time && len(d.Pairs) >= most && ratios(d.Pairs, sliceRPS).Width() > wide {
		most = max(most, s.Longest)
	}
	return len(d.Pairs) >= most || d.settled()
}

// settled reports whether more pairs would tell little more.
func (d *Duel) settled() bool {
	return len(d.Pairs) >= fewestPairs && len(d.Pairs)%2 == 0 &&
		ratios(d.Pairs, sliceRPS).Width() <= narrow && ratios(d.Pairs, sliceCPU).Width() <= narrow
}

// Duel finds a duel; false when there is none that may be used.
func (r *Results) Duel(scenario, point, a, b string) (Duel, bool) {
	i := slices.IndexFunc(r.Duels, func(d Duel) bool {
		return d.Scenario == scenario && d.Point == point && d.A == a && d.B == b && d.Invalid == ""
	})
	if i < 0 {
		return Duel{}, false
	}
	return r.Duels[i], true
}

// Noise is how far the very same program was from itself in duels: the farthest
// end of an interval from 1, as a share. Without such a duel there is no claim.
func (r *Results) Noise(ratio func(Duel) stat.Interval) (noise float64, measured bool) {
	for _, d := range r.Duels {
		if d.A == d.B && d.Invalid == "" && d.NoClaim == "" {
			i := ratio(d)
			noise, measured = max(noise, i.Hi-1, 1-i.Lo), true
		}
	}
	return noise, measured
}

// RatioRPS, RatioCPU and RatioP99 are the ratios of a duel.
func RatioRPS(d Duel) stat.Interval { return d.RPS }

// RatioCPU is the ratio of CPU per request.
func RatioCPU(d Duel) stat.Interval { return d.CPU }

// RatioP99 is the ratio of the client's 99th percentiles.
func RatioP99(d Duel) stat.Interval { return d.P99 }

// Judge says what a duel allows one to claim.
func (r *Results) Judge(d Duel, ratio func(Duel) stat.Interval) stat.Order {
	noise, measured := r.Noise(ratio)
	if d.Invalid != "" || d.NoClaim != "" || !measured {
		return stat.NoClaim
	}
	return stat.Judge(ratio(d), noise)
}

// side is one of the two that are up.
type side struct {
	turnInput
	name    string
	resting []float64 // the shares of a core that it used while it rested
}

// fight runs a duel to its end. A figure that must not be used is told in d; an
// error means that the duel could not be had.
func (l *Lab) fight(ctx context.Context, b bout, d *Duel) error {
	var sides [2]*side
	for i, c := range b.contenders {
		s, stop, err := l.enter(ctx, b, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		defer stop()
		sides[i] = s
	}
	for _, s := range sides {
		if _, err := s.warm(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	first := l.order.IntN(2)
	var around []machine
	for !d.over(b.step, time.Now().Before(l.until)) {
		m, err := l.look(ctx, lookAround)
		if err != nil {
			return err
		}
		around = append(around, m)
		var p Pair
		for turn := range 2 {
			who := (first + turn + len(d.Pairs)) % 2
			s, err := sides[who].slice(ctx, sides[1-who])
			if err != nil {
				return fmt.Errorf("%s: %w", sides[who].name, err)
			}
			if s.Invalid != "" {
				d.Invalid = fmt.Sprintf("%s: %s", sides[who].name, s.Invalid)
				return nil
			}
			p[who] = Slice{s.Client.RPS, s.Server.CPU + s.Server.Backend, s.Client.Latency.P99}
		}
		d.Pairs = append(d.Pairs, p)
		d.Others = stat.Round(busyShareOf(around), 3)
		d.Resting = stat.Round(max(stat.Summarize(sides[0].resting).Center, stat.Summarize(sides[1].resting).Center), 3)
		l.Progress.Pair(len(d.Pairs), ratios(d.Pairs, sliceRPS))
	}
	return nil
}

// enter starts a contender for a duel, with all that it must have at hand.
func (l *Lab) enter(ctx context.Context, b bout, c contender.Contender) (_ *side, stop func(), err error) {
	env, remove, err := l.environment(ctx, b.place, c)
	if err != nil {
		return nil, nil, err
	}
	stops := []func(){remove}
	undo := func() {
		for _, s := range slices.Backward(stops) {
			s()
		}
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	in, err := c.Start(ctx, env)
	if err != nil {
		return nil, nil, err
	}
	stops = append(stops, in.Stop)
	if n := b.point.Idle; n > 0 {
		holder, err := load.HoldApart(ctx, in.Addr, n)
		if err != nil {
			return nil, nil, fmt.Errorf("%d idle connections: %w", n, err)
		}
		stops = append(stops, holder.Stop)
	}
	if n := b.point.Paths; n > 0 {
		if err := load.Fill(ctx, in.Addr, n); err != nil {
			return nil, nil, fmt.Errorf("make %d names: %w", n, err)
		}
	}
	return &side{name: c.Name, turnInput: turnInput{
		instance: in, point: b.point, duration: b.duration(), cores: b.client, warmUp: l.warmUp(), last: -1,
	}}, undo, nil
}

// slice loads s while other rests.
func (s *side) slice(ctx context.Context, other *side) (Sample, error) {
	before, began := proc.ReadUsage(other.instance.Servers...), time.Now()
	sample, err := s.observe(ctx, func() (load.Result, error) {
		return s.instance.Load(ctx, s.workload(s.duration))
	})
	if s.instance.Died != nil && ctx.Err() == nil {
		if died := s.instance.Died(); died != nil {
			return sample, fmt.Errorf("it died in a slice: %w", died)
		}
	}
	if err != nil {
		return sample, err
	}
	if !slices.Equal(s.instance.Servers, other.instance.Servers) { // one database may serve both
		used := proc.ReadUsage(other.instance.Servers...).Sub(before).CPU
		other.resting = append(other.resting, used.Seconds()/time.Since(began).Seconds())
	}
	return sample, nil
}

// errUnsteady marks a contender that warm-ups don't bring to its speed.
var errUnsteady = errors.New("it still gets faster")
