package contender

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/proc"
)

// Protocol is what a contender is asked in. Only HTTP contenders are ranked
// against each other; the others stand beside them as a scale.
type Protocol string

// The protocols.
const (
	HTTP  Protocol = "HTTP"
	Redis Protocol = "Redis"
	SQL   Protocol = "SQL"
)

// Kind is where the count lives.
type Kind string

// The kinds.
const (
	Memory   Kind = "memory"   // gone with the process
	Periodic Kind = "periodic" // written a little later than answered
	Durable  Kind = "durable"  // on disk before the answer
	Constant Kind = "constant" // doesn't count; the figure is a ceiling
)

// Contender is one program in one configuration.
type Contender struct {
	Name     string // for --only and results.json
	Title    string // for people
	Protocol Protocol
	Kind     Kind
	// Stack names the HTTP stack, which several may share; Name when empty.
	Stack string
	// Needs are programs that must be on the machine.
	Needs []string
	// Check says what else is missing; nil: nothing.
	Check func(Env) error
	// ManyCores: makes use of a second core only if it is told to, and is
	// pointless on one.
	ManyCores bool
	// Blind: looks only for a blank line, so it can't do what a field asks for.
	Blind bool
	// Works: its handler can be told to work for each hit.
	Works bool
	// Containers: can be run in one.
	Containers bool
	// MaxConnections it takes; zero: as many as the lab opens.
	MaxConnections int

	Start func(ctx context.Context, env Env) (*Instance, error)
}

// Env is what a contender is started with.
type Env struct {
	Bin      string // the programs that bench.sh built
	Peers    string // bench/peers
	Data     string // an empty directory on a real disk, for this start alone
	Cores    []int  // the cores to run on; none means all
	Work     uint64 // steps of work for each hit, where the contender Works
	Idle     bool   // connections must be let idle for the whole of a duel
	Docker   *Docker
	Postgres *Cluster
}

// workers is how many threads a program needs to use its cores.
func (e Env) workers() int {
	if len(e.Cores) > 0 {
		return len(e.Cores)
	}
	return len(proc.AllCores())
}

// Instance is a contender that runs.
type Instance struct {
	// Addr of the HTTP listener; empty for other protocols.
	Addr string
	// Servers are the roots of the process trees whose CPU and memory are the
	// contender's; Backends those of the database behind it.
	Servers, Backends []int
	// Load runs a closed loop.
	Load func(context.Context, load.Workload) (load.Result, error)
	// Count reads the count without counting. nil: there is none.
	Count func(context.Context) (int64, error)
	// Died says how it ended, if it did by itself; nil: it can't be told.
	Died func() error
	// Stop ends it and removes what it left.
	Stop func()
}

var registry []Contender

// Register adds contenders to the lab.
func Register(c ...Contender) {
	for i := range c {
		c[i].Stack = cmp.Or(c[i].Stack, c[i].Name)
	}
	registry = append(registry, c...)
}

// All returns the contenders, counterd's first.
func All() []Contender {
	all := slices.Clone(registry)
	slices.SortStableFunc(all, func(a, b Contender) int { return rank(a) - rank(b) })
	return all
}

func rank(c Contender) int {
	switch {
	case strings.HasPrefix(c.Title, "counterd"):
		return 0
	case c.Protocol == HTTP:
		return 1
	}
	return 2
}

// Missing says why the contender can't be measured here; nil: it can.
func (c Contender) Missing(env Env) error {
	for _, program := range c.Needs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed", program)
		}
	}
	if c.Check != nil {
		return c.Check(env)
	}
	return nil
}

// httpInstance is the common case: a server that is loaded by wrk and asked at /count.
func httpInstance(p *proc.Process, addr, dir string) *Instance {
	in := httpAt(addr, dir)
	in.Servers = []int{p.PID}
	in.Died = p.Died
	in.Stop = p.Stop
	return in
}

func httpAt(addr, dir string) *Instance {
	return &Instance{
		Addr: addr,
		Load: func(ctx context.Context, w load.Workload) (load.Result, error) {
			return load.Wrk(ctx, "http://"+addr, dir, w)
		},
		Count: func(ctx context.Context) (int64, error) {
			body, err := get(ctx, "http://"+addr+"/count")
			if err != nil {
				return 0, err
			}
			return strconv.ParseInt(strings.TrimSpace(body), 10, 64)
		},
	}
}

// client never keeps a connection: an idle one would be counted among the
// server's, and a server that was stopped would be met again.
var client = &http.Client{
	Timeout:   15 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true},
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answered %s: %s", url, answer.Status, body)
	}
	return string(body), nil
}

// built is a Check for programs that bench.sh builds.
func built(name string) func(Env) error {
	return func(e Env) error {
		if _, err := os.Stat(filepath.Join(e.Bin, name)); err != nil {
			return fmt.Errorf("%s was not built (its output stands at the start of the run)", name)
		}
		return nil
	}
}

// freePort finds a port for programs that can't take port 0.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// untilAnswers waits for programs that don't say when they are up. died, if any,
// ends the wait early.
func untilAnswers(ctx context.Context, died func() error, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if died != nil {
			if err := died(); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// answers is the usual question to a program that doesn't say when it is up.
func (in *Instance) answers(ctx context.Context) error {
	_, err := in.Count(ctx)
	return err
}

// Named finds a contender.
func Named(name string) (Contender, bool) {
	i := slices.IndexFunc(registry, func(c Contender) bool { return c.Name == name })
	if i < 0 {
		return Contender{}, false
	}
	return registry[i], true
}
