// Package proctest builds counterd and runs it, and programs like it, for tests:
// on free ports, in a clean environment, with its log kept, until the test ends.
package proctest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait. It is long: only a failing test waits for it.
const Patience = time.Minute

// Env is the environment of a child: what every program needs and extra, without
// variables of the developer's that configure counterd.
func Env(extra ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(),
		"GORACE=atexit_sleep_ms=0"} // else each end of a -race binary takes a second
	return append(env, extra...)
}

// Command is counterd on free ports, unless args say otherwise. What stands in
// prefix runs it: a shell that sets limits, taskset.
func Command(binary string, args []string, prefix ...string) *exec.Cmd {
	all := append(prefix[:len(prefix):len(prefix)], binary, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0")
	all = append(all, args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = Env()
	return cmd
}

// Process is a program that runs, at the longest until its test ends. Its methods
// may be called by several goroutines; those that fail the test at once, Await and
// Wait, only by the test's own.
type Process struct {
	tb    testing.TB
	cmd   *exec.Cmd
	ended chan struct{}
	log   log
}

// log is what a process has written so far.
type log struct {
	mu      sync.Mutex
	text    []byte
	changed chan struct{} // closed at the next write
}

// Write takes what the process has written.
func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

// Start starts cmd, in a directory of its own and with its standard error as its
// log unless cmd has others.
func Start(tb testing.TB, cmd *exec.Cmd) *Process {
	tb.Helper()
	p := &Process{tb: tb, cmd: cmd, ended: make(chan struct{}), log: log{changed: make(chan struct{})}}
	if cmd.Dir == "" {
		cmd.Dir = tb.TempDir()
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.log
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // the state says how it ended
	}()
	tb.Cleanup(p.Kill)
	return p
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended and all of its log is there.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Log is what the process has logged so far.
func (p *Process) Log() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return string(p.log.text)
}

// find looks for expr in the whole lines of the log. The channel is closed when
// there is more.
func (p *Process) find(re *regexp.Regexp) ([]string, <-chan struct{}) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	whole := p.log.text[:bytes.LastIndexByte(p.log.text, '\n')+1]
	return re.FindStringSubmatch(string(whole)), p.log.changed
}

// Await waits until the log matches expr, and returns the match with its groups.
func (p *Process) Await(expr string) []string {
	p.tb.Helper()
	re := regexp.MustCompile(expr)
	for late := time.After(Patience); ; {
		m, changed := p.find(re)
		if m != nil {
			return m
		}
		select {
		case <-changed:
		case <-p.ended:
			if m, _ := p.find(re); m != nil {
				return m
			}
			p.tb.Fatalf("it ended with code %d before %q:\n%s", p.cmd.ProcessState.ExitCode(), expr, p.Log())
		case <-late:
			p.tb.Fatalf("no %q in:\n%s", expr, p.Log())
		}
	}
}

// Listening waits until counterd listens, and returns where. admin is empty where
// it is off.
func (p *Process) Listening() (listen, admin string) {
	p.tb.Helper()
	m := p.Await(`msg=listening listen=(\S+) admin=(?:""|(\S+)) `)
	return m[1], m[2]
}

// Signal sends s.
func (p *Process) Signal(s os.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Errorf("%v: %v", s, err)
	}
}

// Kill ends the process with SIGKILL, if it hasn't ended, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Wait waits for the end and checks the exit code.
func (p *Process) Wait(code int) {
	p.tb.Helper()
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.tb.Fatalf("it doesn't end:\n%s", p.Log())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.tb.Errorf("exit code %d, want %d:\n%s", got, code, p.Log())
	}
}

// Stop stops the process as an operator does, which must end it well.
func (p *Process) Stop() {
	p.tb.Helper()
	p.Signal(syscall.SIGTERM)
	p.Wait(0)
}

// FreeAddr finds an address that nobody listens on, each time another.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf("127.0.0.1:%d", FreePort(tb))
}

// taken are the ports that FreePort has given.
var taken sync.Map

// FreePort finds a port of 127.0.0.1 that nobody listens on, each time another. It is
// outside the range that the kernel gives to outgoing connections: a client that
// dials a port of that range while no server has it may meet itself.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if _, had := taken.LoadOrStore(port, true); had {
			continue
		}
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			ln.Close()
			return port
		}
	}
	tb.Fatal("no free port")
	return 0
}
