//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, spec Spec) *Process {
	t.Helper()
	p, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func TestStartWaitsForTheLine(t *testing.T) {
	port := ""
	start(t, Spec{
		Args:  []string{"sh", "-c", "echo starting >&2; echo listening 42; exec sleep 60"},
		Ready: func(line string) (ok bool) { port, ok = strings.CutPrefix(line, "listening "); return ok },
	})
	if port != "42" {
		t.Errorf("port %q", port)
	}
}

func TestStartTellsWhyItDidNotStart(t *testing.T) {
	never := func(string) bool { return false }
	_, err := Start(t.Context(), Spec{Args: []string{"sh", "-c", "echo the port is taken >&2; exit 1"}, Ready: never})
	if err == nil || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("got %v", err)
	}
	_, err = Start(t.Context(), Spec{Args: []string{"sleep", "60"}, Ready: never, ReadyWithin: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "not ready within") {
		t.Errorf("got %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Start(ctx, Spec{
		Args:  []string{"sh", "-c", "echo up; exec sleep 60"},
		Ready: func(string) bool { cancel(); return false },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A server that leaves a child behind, deaf to SIGTERM at that, must not
// disturb the next measurement, however it ended.
func TestWhatAServerLeavesBehindDiesWithIt(t *testing.T) {
	for name, ending := range map[string]string{"by itself": "exit 0", "by Stop": "echo ready; exec sleep 60"} {
		t.Run(name, func(t *testing.T) {
			child := 0
			p := start(t, Spec{
				Args: []string{"sh", "-c", "trap '' TERM; sleep 60 >/dev/null 2>&1 & trap - TERM; echo child $!; " + ending},
				Ready: func(line string) bool {
					n, _ := fmt.Sscanf(line, "child %d", &child)
					return n == 1
				},
			})
			p.Stop()
			waitGone(t, child)
		})
	}
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		if s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(s), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("process %d still lives", pid)
}

func TestTreeAndUsageIncludeChildren(t *testing.T) {
	// The parent waits, the child burns.
	p := start(t, Spec{
		Args:  []string{"sh", "-c", "(echo up; while :; do :; done) & wait"},
		Ready: func(line string) bool { return line == "up" },
	})
	if tree := Tree(p.PID); len(tree) != 2 || tree[0] != p.PID {
		t.Fatalf("tree %v, want the shell and its child", tree)
	}
	const want = 50 * time.Millisecond
	before := ReadUsage(p.PID)
	deadline := time.Now().Add(10 * time.Second)
	for ReadUsage(p.PID).Sub(before).CPU < want {
		if time.Now().After(deadline) {
			t.Fatalf("the child's CPU is not seen: %+v", ReadUsage(p.PID).Sub(before))
		}
		time.Sleep(time.Millisecond)
	}
	if m := ReadMemory(p.PID); m.Resident <= 0 || m.Peak < m.Resident {
		t.Errorf("memory %+v", m)
	}
}

// Our own CPU, measured from outside, must be what the kernel says inside.
func TestUsageAgreesWithGetrusage(t *testing.T) {
	own := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	clock := func() time.Duration {
		d, err := cpuClock(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	wantBefore, gotBefore := own(), clock()
	for own()-wantBefore < 100*time.Millisecond {
	}
	got, want := clock()-gotBefore, own()-wantBefore
	if diff := got - want; diff < -10*time.Millisecond || diff > 10*time.Millisecond {
		t.Errorf("outside %v, inside %v", got, want)
	}
}

func TestPinBindsEveryThread(t *testing.T) {
	p := start(t, Spec{Args: []string{"sleep", "60"}})
	first := AllCores()[:1]
	if err := Pin(first, p.PID); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Cpus_allowed_list:\t%d\n", first[0]); !strings.Contains(string(status), want) {
		t.Errorf("want %q in\n%s", want, status)
	}
}

func TestCleanEnvDropsTheServersSettings(t *testing.T) {
	t.Setenv("COUNTERD_ENGINE", "std")
	for _, v := range cleanEnv() {
		if strings.HasPrefix(v, "COUNTERD_") {
			t.Errorf("%s would change what is measured", v)
		}
	}
}

// Every call after CountSyscalls has returned must be seen, those of children too.
func TestSyscallsMissNothing(t *testing.T) {
	const reads = 5000
	begin := filepath.Join(t.TempDir(), "begin")
	end := begin + ".end"
	script := fmt.Sprintf("until [ -e %[1]s ]; do sleep 0.02; done; dd if=/dev/zero of=/dev/null bs=1 count=%[3]d 2>&1; touch %[2]s; sleep 60", begin, end, reads)
	p, err := Start(t.Context(), Spec{Args: []string{"sh", "-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	counting, err := CountSyscalls(t.Context(), p.PID)
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(begin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(end); err == nil {
			break
		}
	}
	calls, err := counting.Stop()
	if err != nil {
		t.Skip(err) // perf may not look here
	}
	if calls < 2*reads || calls > 2*reads+5000 { // beside them: the shell's, and its sleeps
		t.Errorf("%d system calls, want a little more than %d", calls, 2*reads)
	}
}

// What ended took its switches with it, so they can't be told.
func TestSwitchesAreNotGuessed(t *testing.T) {
	before := Usage{CPU: 1, Voluntary: 10, Involuntary: 3}
	if u := (Usage{CPU: 5, Voluntary: 15, Involuntary: 4}).Sub(before); u.Voluntary != 5 || u.Involuntary != 1 {
		t.Errorf("got %+v", u)
	}
	for _, after := range []Usage{
		{CPU: 5, Ended: 2, Voluntary: 15, Involuntary: 4}, // a child ended
		{CPU: 5, Voluntary: 7, Involuntary: 4},            // a thread ended
	} {
		if u := after.Sub(before); u.Voluntary != 0 || u.Involuntary != 0 || u.CPU != 4 {
			t.Errorf("after %+v: %+v", after, u)
		}
	}
}
