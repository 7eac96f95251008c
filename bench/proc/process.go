package proc

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a program may take to end after SIGTERM.
const stopGrace = 5 * time.Second

// Spec says what to start and where it may run.
type Spec struct {
	Args []string
	Env  []string // added to the lab's own, less COUNTERD_*
	Dir  string
	// Cores the program is bound to; none means all.
	Cores []int
	// User to run as; empty means the lab's own.
	User string
	// Ready is given each line of output, stdout and stderr alike, until it
	// says that the program is up. nil: up as soon as it is started.
	Ready func(line string) bool
	// ReadyWithin bounds the wait for Ready; 10 s when zero.
	ReadyWithin time.Duration
	// StopBy is the signal that ends it; SIGTERM when zero.
	StopBy syscall.Signal
}

// Process is a program that the lab started. It is the leader of its own
// process group, so that Stop reaches all that it started in turn.
type Process struct {
	PID    int
	cmd    *exec.Cmd
	stopBy syscall.Signal
	tail   *tail
	done   chan struct{}
	err    error
}

// Start runs the program and waits until it is ready.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	args := pinned(spec.Args, spec.Cores)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = spec.Dir
	cmd.Env = append(cleanEnv(), spec.Env...)
	attr, err := attributes(spec.User)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = attr

	p := &Process{cmd: cmd, stopBy: cmp.Or(spec.StopBy, syscall.SIGTERM), tail: &tail{}, done: make(chan struct{})}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for %s: %w", spec.Args[0], err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Args[0], err)
	}
	p.PID = cmd.Process.Pid

	swept := make(chan struct{})
	go func() {
		killGroupAfter(p.PID)
		close(swept)
	}()
	ready := make(chan struct{})
	go p.follow(out, spec.Ready, ready, swept)
	if spec.Ready == nil {
		return p, nil
	}
	within := cmp.Or(spec.ReadyWithin, 10*time.Second)
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case <-ready:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s ended before it was ready: %w\n%s", spec.Args[0], p.failure(), p.tail)
	case <-timeout.C:
		p.Stop()
		return nil, fmt.Errorf("%s was not ready within %v\n%s", spec.Args[0], within, p.tail)
	case <-ctx.Done():
		p.Stop()
		return nil, ctx.Err()
	}
}

// follow reads the output to its end, so that the program never blocks on it,
// and reaps the program once its group is swept.
func (p *Process) follow(out io.ReadCloser, isReady func(string) bool, ready chan<- struct{}, swept <-chan struct{}) {
	defer out.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		p.tail.add(line)
		if isReady != nil && isReady(line) {
			isReady = nil
			close(ready)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	<-swept
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *Process) failure() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// Alive tells whether the program still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Died says how the program ended; nil: it runs.
func (p *Process) Died() error {
	if p.Alive() {
		return nil
	}
	return fmt.Errorf("%s ended: %w\n%s", p.cmd.Args[0], p.failure(), p.tail)
}

// Output returns the last lines that the program wrote.
func (p *Process) Output() string { return p.tail.String() }

// Stop asks the program to end, and kills it when it doesn't. What it left
// running is killed with it. Stop returns when all are gone; it may be called
// more than once.
func (p *Process) Stop() {
	if p == nil || !p.Alive() {
		return
	}
	_ = syscall.Kill(p.PID, p.stopBy)
	timeout := time.NewTimer(stopGrace)
	defer timeout.Stop()
	select {
	case <-p.done:
	case <-timeout.C:
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		<-p.done
	}
}

// cleanEnv is the lab's environment without COUNTERD_*: a setting of the
// person at the terminal must not change what is measured.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "COUNTERD_") {
			env = append(env, v)
		}
	}
	return env
}

func pinned(args []string, cores []int) []string {
	if len(cores) == 0 {
		return args
	}
	return append([]string{"taskset", "-c", CoreList(cores)}, args...)
}

// CoreList formats cores as taskset takes them.
func CoreList(cores []int) string {
	names := make([]string, len(cores))
	for i, c := range cores {
		names[i] = strconv.Itoa(c)
	}
	return strings.Join(names, ",")
}

// tail keeps the last lines for error messages.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 20

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, line)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
