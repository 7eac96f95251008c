// Command bench is the comparison lab of counterd; scripts/bench.sh builds
// what it needs and runs it. bench/README.md says how it measures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/counterd/counterd/bench/contender"
	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/report"
	"github.com/counterd/counterd/internal/conformance"
)

func main() {
	err := run()
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// exitCode ends the program when all has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

type options struct {
	mode      string
	list      bool
	compare   bool
	render    string
	only      []string
	scenarios []string
	rounds    int
	pairs     int
	duration  time.Duration
	seed      uint64
	root, bin string
	out       string
	args      []string
}

func run() error {
	if len(os.Args) > 1 {
		switch os.Args[1] { // the lab's own load generators
		case load.OpenLoopCommand:
			return load.OpenLoopMain(os.Args[2:])
		case load.HoldCommand:
			return load.HoldMain(os.Args[2:])
		}
	}
	o, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	switch {
	case o.list:
		list(o)
		return nil
	case o.compare:
		return compare(o.args)
	case o.render != "":
		return render(o.render)
	}
	return measure(o)
}

func parse(args []string) (options, error) {
	o := options{mode: lab.ModeDefault}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Usage = func() { usage(f) }
	mode := func(name, help string) {
		f.BoolFunc(name, help, func(string) error { o.mode = name; return nil })
	}
	mode(lab.ModeQuick, "the seed's comparison, short: within 3 minutes")
	mode(lab.ModeFull, "every scenario, every contender")
	mode(lab.ModeDocker, "in containers")
	mode(lab.ModeCheck, "what counterd promises of its speed, each as pass or fail")
	f.BoolVar(&o.list, "list", false, "name contenders and scenarios")
	f.BoolVar(&o.compare, "compare", false, "say what changed between two runs: --compare A B")
	f.StringVar(&o.render, "render", "", "write report and charts of a `run` again")
	words := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, strings.Split(s, ",")...); return nil }
	}
	f.Func("only", "`contenders`, by comma; gnet-* matches", words(&o.only))
	f.Func("scenario", "`scenarios`, by comma", words(&o.scenarios))
	f.IntVar(&o.rounds, "rounds", 0, "turns of each contender instead of the scenario's `number`")
	f.IntVar(&o.pairs, "pairs", 0, "the most pairs of a duel, a `number`")
	f.DurationVar(&o.duration, "duration", 0, "of one measurement or slice, whole `seconds`, such as 5s")
	f.Uint64Var(&o.seed, "seed", 0, "`number` that fixes the random order")
	f.StringVar(&o.root, "root", ".", "`directory` of the repository")
	f.StringVar(&o.bin, "bin", "bench/.build", "`directory` of the programs to measure")
	f.StringVar(&o.out, "out", "", "`directory` for the results; default bench/results/<time>")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, exitCode(0)
		}
		return o, exitCode(2)
	}
	o.args = f.Args()
	if len(o.args) > 0 && !o.compare {
		return o, wrong("unexpected %q; --help says what there is", o.args[0])
	}
	if o.rounds < 0 || o.pairs < 0 || o.duration < 0 || o.duration%time.Second != 0 {
		return o, wrong("--rounds and --pairs must be above zero, --duration whole seconds")
	}
	return o, nil
}

// wrong reports a mistake on the command line.
func wrong(format string, args ...any) error {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	return exitCode(2)
}

func usage(f *flag.FlagSet) {
	fmt.Fprint(f.Output(), `usage: scripts/bench.sh [flags]

Without flags: the seed's comparison (wrk -t4 -c100 -d30s on localhost) of its
stack and counterd's engines, and duels for what is claimed.

`)
	f.PrintDefaults()
}

func measure(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	plan, err := makePlan(&o)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(ctx, o)
	defer cancel()
	data, err := lab.DataDir(ctx, filepath.Join(o.root, "bench", ".build"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	peers, err := filepath.Abs(filepath.Join(o.root, "bench", "peers"))
	if err != nil {
		return err
	}
	cluster := &contender.Cluster{Dir: data}
	defer cluster.Close()

	now := time.Now().UTC()
	if o.seed == 0 {
		o.seed = uint64(now.UnixNano())
	}
	if o.out == "" {
		o.out = filepath.Join(o.root, "bench", "results", now.Format("20060102T150405Z"))
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	results := &lab.Results{
		Schema: lab.SchemaVersion, Run: filepath.Base(o.out), Mode: o.mode, Started: now, Seed: o.seed, Plan: plan,
		Environment: lab.DescribeEnvironment(ctx, o.root, data),
	}
	l := &lab.Lab{
		Env: contender.Env{
			Bin: bin, Peers: peers, Data: data, Postgres: cluster,
		},
		Results:  results,
		Progress: newProgress(os.Stderr),
		Score:    conformance.Score,
		Saved: func() {
			if err := results.Save(o.out); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		},
	}
	l.Describe()
	announce(l, o)

	runErr := l.Run(ctx)
	stop() // a second Ctrl-C ends it at once
	results.Interrupted = runErr != nil
	results.Environment.BusyAfter = lab.BusyShare(context.Background(), time.Second)
	results.Finished = time.Now().UTC()
	results.Checks = lab.RunChecks(results)
	if err := conclude(results, o.out); err != nil {
		return err
	}
	return verdict(results, runErr)
}

// within is what the modes promise, less what a build and the report take.
var within = map[string]time.Duration{
	lab.ModeQuick: 130 * time.Second,
	lab.ModeCheck: 560 * time.Second,
	lab.ModeFull:  87 * time.Minute,
}

// bounded ends a mode in time, also when a contender hangs; who asks for more
// gets more.
func bounded(ctx context.Context, o options) (context.Context, context.CancelFunc) {
	asked := o.rounds+o.pairs > 0 || o.duration > 0 || len(o.scenarios)+len(o.only) > 0
	limit, ok := within[o.mode]
	if !ok || asked {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

func makePlan(o *options) ([]lab.Step, error) {
	plan, err := lab.PlanFor(o.mode)
	if err != nil {
		return nil, err
	}
	plan, err = lab.Choose(plan, o.scenarios, o.only)
	if err != nil {
		return nil, wrong("%v", err)
	}
	if len(o.scenarios)+len(o.only) > 0 && o.mode == lab.ModeDefault {
		o.mode = lab.ModeChosen
	}
	for i := range plan {
		s := &plan[i]
		if o.rounds > 0 && s.Rounds > 0 {
			s.Rounds = o.rounds
		}
		if o.pairs > 0 && s.Pairs > 0 {
			s.Pairs, s.Longest = o.pairs, 0
		}
		if o.duration > 0 {
			s.Seconds = o.duration.Seconds()
		}
	}
	return plan, nil
}

func announce(l *lab.Lab, o options) {
	e := l.Results.Environment
	fmt.Fprintf(os.Stderr, "%s, %d cores, %s; results in %s\n", e.CPU, e.Cores, e.Kernel, o.out)
	if e.Busy > 0.1 {
		fmt.Fprintf(os.Stderr, "careful: others use %.0f %% of this machine. A duel in which they use more than a tenth claims nothing\n", 100*e.Busy)
	}
	if e.DataFS == "tmpfs" {
		fmt.Fprintln(os.Stderr, "careful: the stores lie in memory, durable figures mean nothing; set TMPDIR to a disk")
	}
	for _, a := range l.Results.NotMeasured {
		fmt.Fprintf(os.Stderr, "not measured: %s: %s\n", a.Contender, a.Why)
	}
	took := l.Estimate()
	fmt.Fprintf(os.Stderr, "this takes at most %v, until %s\n",
		took.Round(time.Second), time.Now().Add(took).Format("15:04"))
}

// conclude writes all files and prints the table.
func conclude(r *lab.Results, dir string) error {
	if err := r.Save(dir); err != nil {
		return err
	}
	if err := report.Write(r, dir); err != nil {
		return err
	}
	report.Print(os.Stdout, r)
	fmt.Printf("\n%s\n", filepath.Join(dir, "report.md"))
	return nil
}

// verdict turns what was found into the exit code.
func verdict(r *lab.Results, runErr error) error {
	if errors.Is(runErr, context.DeadlineExceeded) {
		return fmt.Errorf("not done within %v; what was measured until then is written", within[r.Mode])
	}
	if runErr != nil {
		fmt.Fprintln(os.Stderr, "stopped; what was measured until then is written")
		return exitCode(130)
	}
	if err := r.Wrong(); err != nil {
		return fmt.Errorf("this run must not be trusted:\n%w", err)
	}
	if err := r.Failed(); err != nil {
		return fmt.Errorf("this should have been measured and wasn't:\n%w", err)
	}
	if r.Mode != lab.ModeCheck {
		return nil
	}
	for _, c := range r.Checks {
		if !c.Pass {
			return exitCode(1)
		}
	}
	return nil
}

func compare(runs []string) error {
	if len(runs) != 2 {
		return errors.New("--compare wants two directories with results")
	}
	a, err := lab.Load(runs[0])
	if err != nil {
		return err
	}
	b, err := lab.Load(runs[1])
	if err != nil {
		return err
	}
	report.Compare(os.Stdout, a, b)
	return nil
}

func render(dir string) error {
	r, err := lab.Load(dir)
	if err != nil {
		return err
	}
	return report.Write(r, dir)
}

func list(o options) {
	env := contender.Env{Bin: o.bin, Peers: filepath.Join(o.root, "bench", "peers")}
	fmt.Println("contenders")
	for _, c := range contender.All() {
		fmt.Printf("  %-19s %s%s\n", c.Name, c.Title, absent(c.Missing(env)))
	}
	fmt.Println("scenarios")
	for _, s := range lab.Scenarios {
		fmt.Printf("  %-19s %s\n", s.Name, s.Title)
	}
}

func absent(why error) string {
	if why == nil {
		return ""
	}
	return fmt.Sprintf(" (not here: %s)", strings.ReplaceAll(why.Error(), "\n", "; "))
}
