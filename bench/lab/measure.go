package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/counterd/counterd/bench/contender"
	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/proc"
)

const (
	warmUp = time.Second
	// settleWithin bounds the wait for the requests that were on the way when
	// the client ended.
	settleWithin = 10 * time.Second
	// settleStep apart, two equal counts are taken for the last.
	settleStep = 40 * time.Millisecond
	// calm is how long memory must not change before idle connections are weighed.
	calm = 300 * time.Millisecond
)

// turn measures an instance that has just started.
type turn func(ctx context.Context, t *turnInput) (Sample, error)

type turnInput struct {
	instance *contender.Instance
	point    Point
	duration time.Duration
	cores    []int // of the client
	warmUp   time.Duration
	probe    bool // count system calls too
	rate     float64
	// last is the count after the measurement before; -1: there was none.
	last int64
}

func (t *turnInput) workload(d time.Duration) load.Workload {
	return load.Workload{
		Connections: t.point.Connections, Threads: t.point.Threads, Pipeline: t.point.Pipeline,
		Body: t.point.Body, Paths: t.point.Paths,
		Close: t.point.Close, Plain: t.point.Plain, Duration: d, Cores: t.cores,
	}
}

const (
	// warmUps is how many a contender may need.
	warmUps = 10
	// warmed: a warm-up that is so much faster than the one before was not the last.
	warmed = 1.10
	// sooner: a measurement that is so much faster than the warm-up was one itself.
	sooner = 1.50
)

// warm loads the instance until it gets no faster, and returns its rate.
func (t *turnInput) warm(ctx context.Context) (float64, error) {
	last := 0.0
	for i := range warmUps {
		r, err := t.instance.Load(ctx, t.workload(t.warmUp))
		if err != nil {
			return 0, fmt.Errorf("warm-up: %w", err)
		}
		if i > 0 && r.RPS <= warmed*last {
			return r.RPS, nil
		}
		last = r.RPS
	}
	return 0, fmt.Errorf("%w after %d warm-ups", errUnsteady, warmUps)
}

// closedLoop keeps every connection busy.
func closedLoop(ctx context.Context, t *turnInput) (Sample, error) {
	warm, err := t.warm(ctx)
	if err != nil {
		return Sample{}, err
	}
	for range warmUps {
		s, err := t.observe(ctx, func() (load.Result, error) {
			return t.instance.Load(ctx, t.workload(t.duration))
		})
		if err != nil {
			return Sample{}, err
		}
		if s.Client.RPS > sooner*warm {
			warm = s.Client.RPS // it had not been warm
			continue
		}
		if t.probe {
			s.Server.Syscalls = t.probeSyscalls(ctx)
		}
		return s, nil
	}
	return Sample{}, fmt.Errorf("%w after %d measurements", errUnsteady, warmUps)
}

// openLoop sends at a constant rate.
func openLoop(ctx context.Context, t *turnInput) (Sample, error) {
	if _, err := load.OpenLoop(ctx, t.instance.Addr, t.rate, t.workload(t.warmUp)); err != nil {
		return Sample{}, fmt.Errorf("warm-up: %w", err)
	}
	return t.observe(ctx, func() (load.Result, error) {
		return load.OpenLoop(ctx, t.instance.Addr, t.rate, t.workload(t.duration))
	})
}

// observe runs the load between two looks at the server, and compares counts.
func (t *turnInput) observe(ctx context.Context, run func() (load.Result, error)) (Sample, error) {
	in := t.instance
	before, err := settled(ctx, in)
	if err != nil {
		return Sample{}, fmt.Errorf("count before: %w", err)
	}
	dropped := kernelTable.dropped()
	machine := lookAtMachine()
	server, backend := proc.ReadUsage(in.Servers...), proc.ReadUsage(in.Backends...)
	r, err := run()
	if err != nil {
		return Sample{}, err
	}
	server = proc.ReadUsage(in.Servers...).Sub(server)
	backend = proc.ReadUsage(in.Backends...).Sub(backend)
	others, stolen := machine.since(server.CPU + backend.CPU + r.CPU)
	after, err := settled(ctx, in)
	if err != nil {
		return Sample{}, fmt.Errorf("count after: %w", err)
	}

	s := Sample{Client: r, Counted: -1, Output: r.Output}
	if in.Count != nil {
		s.Counted = after - before
	}
	s.Invalid = Verify(r, s.Counted)
	if in.Count != nil && t.last >= 0 && before != t.last && s.Invalid == "" {
		s.Invalid = fmt.Sprintf("its count went from %d to %d though nobody asked", t.last, before)
	}
	t.last = after
	if dropped = kernelTable.dropped() - dropped; dropped > 0 && s.Invalid == "" {
		s.Invalid = fmt.Sprintf("the kernel's firewall dropped %d packets: its table of connections was full", dropped)
	}
	s.Server = perRequest(max(r.Requests, s.Counted), server, backend)
	s.Server.PeakRSS = proc.ReadMemory(in.Servers...).Peak
	s.Server.Others, s.Server.Stolen = others, stolen
	return s, nil
}

// machine is how busy all cores had been at a moment.
type machine struct {
	at           time.Time
	busy, stolen time.Duration
	lasted       time.Duration // of a look
}

func lookAtMachine() machine {
	busy, stolen := proc.MachineBusy()
	return machine{at: time.Now(), busy: busy, stolen: stolen}
}

// since returns the shares of the machine's time that went to others than us,
// and to the hypervisor's other guests.
func (m machine) since(ours time.Duration) (others, stolen float64) {
	now := lookAtMachine()
	whole := now.at.Sub(m.at).Seconds() * float64(max(1, len(proc.AllCores())))
	return max(0, (now.busy-m.busy-ours).Seconds()/whole), (now.stolen - m.stolen).Seconds() / whole
}

// lookFor says how busy the machine was for a while in which we did nothing.
func lookFor(ctx context.Context, d time.Duration) (machine, error) {
	m := lookAtMachine()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return machine{}, ctx.Err()
	}
	now := lookAtMachine()
	return machine{busy: now.busy - m.busy, stolen: now.stolen - m.stolen, lasted: now.at.Sub(m.at)}, nil
}

// busyShareOf sums looks up: one alone is too short for the kernel's ticks.
func busyShareOf(looks []machine) float64 {
	var busy, lasted time.Duration
	for _, m := range looks {
		busy += m.busy
		lasted += m.lasted
	}
	if lasted == 0 {
		return 0
	}
	return min(1, busy.Seconds()/lasted.Seconds()/float64(max(1, len(proc.AllCores()))))
}

// Verify compares what the client saw with what the server counted (-1: it
// has no count). It returns why the figure is invalid, or nothing.
func Verify(r load.Result, counted int64) string {
	switch {
	case r.Requests == 0:
		return "the client completed no request"
	case r.Errors.Status > 0:
		return fmt.Sprintf("%d requests were not answered with success", r.Errors.Status)
	case r.Backlog > 0:
		return fmt.Sprintf("%d requests fell due and could not be sent: the server was overloaded", r.Backlog)
	case counted < 0:
		return ""
	case counted < r.Requests:
		return fmt.Sprintf("the server counted %d, the client completed %d", counted, r.Requests)
	case counted > r.Requests+r.InFlight:
		return fmt.Sprintf("the server counted %d, the client completed %d and had at most %d on the way",
			counted, r.Requests, r.InFlight)
	}
	return ""
}

func perRequest(n int64, server, backend proc.Usage) Server {
	if n == 0 {
		return Server{}
	}
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(n) }
	s := Server{
		CPU:      us(server.CPU),
		Backend:  us(backend.CPU),
		Switches: float64(server.Voluntary+server.Involuntary) / float64(n),
	}
	// Ticks are coarse, their proportion is good: it splits the exact time.
	if ticks := server.User + server.Kernel; ticks > 0 {
		s.Kernel = s.CPU * float64(server.Kernel) / float64(ticks)
	}
	return s
}

// settled returns the count once it has stopped to rise.
func settled(ctx context.Context, in *contender.Instance) (int64, error) {
	if in.Count == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	last := int64(-1)
	for {
		n, err := in.Count(ctx)
		if err != nil {
			return 0, err
		}
		if n == last {
			return n, nil
		}
		last = n
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("the count still rises %v after the load ended", settleWithin)
		}
	}
}

// probeSyscalls returns system calls per request, 0 when they can't be had.
func (t *turnInput) probeSyscalls(ctx context.Context) float64 {
	if len(t.instance.Servers) == 0 {
		return 0
	}
	counting, err := proc.CountSyscalls(ctx, t.instance.Servers...)
	if err != nil {
		return 0
	}
	r, loadErr := t.instance.Load(ctx, t.workload(t.warmUp))
	calls, err := counting.Stop()
	if err != nil || loadErr != nil || r.Requests == 0 {
		return 0
	}
	return float64(calls) / float64(r.Requests)
}

// idleMemory weighs connections that wait.
func idleMemory(ctx context.Context, t *turnInput) (Sample, error) {
	in := t.instance
	// What the first requests allocate once isn't the connections'.
	warm, err := load.Hold(ctx, in.Addr, 50)
	if err != nil {
		return Sample{}, fmt.Errorf("warm-up: %w", err)
	}
	warm.Close()
	before, err := settled(ctx, in)
	if err != nil {
		return Sample{}, err
	}
	empty, err := calmMemory(ctx, in)
	if err != nil {
		return Sample{}, err
	}
	n := t.point.Connections
	began := time.Now()
	held, err := load.Hold(ctx, in.Addr, n)
	if err != nil {
		return Sample{}, err
	}
	defer held.Reset()
	took := time.Since(began)
	full, err := calmMemory(ctx, in)
	if err != nil {
		return Sample{}, err
	}
	after, err := settled(ctx, in)
	if err != nil {
		return Sample{}, err
	}
	s := Sample{
		Client:  load.Result{Requests: int64(n), Elapsed: took},
		Counted: after - before,
		Server: Server{
			PerConnection: float64(full.Resident-empty.Resident) / float64(n),
			PeakRSS:       full.Peak,
		},
	}
	s.Invalid = Verify(s.Client, s.Counted)
	return s, nil
}

// calmMemory waits until resident memory has stopped to change.
func calmMemory(ctx context.Context, in *contender.Instance) (proc.Memory, error) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	last := proc.ReadMemory(in.Servers...)
	for {
		select {
		case <-time.After(calm):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return last, nil // it breathes; this is as calm as it gets
			}
			return last, ctx.Err()
		}
		now := proc.ReadMemory(in.Servers...)
		if now.Resident == 0 {
			return now, errors.New("the server's memory can't be read")
		}
		if now.Resident == last.Resident {
			return now, nil
		}
		last = now
	}
}

// dataDir gives one start of one contender a directory of its own.
func dataDir(parent string) (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp(parent, "start-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
