package proc

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Syscalls counts the system calls of process trees with perf while a load
// runs. Counting costs time, so such a run gives no other figure.
type Syscalls struct {
	cmd    *exec.Cmd
	report *strings.Builder
}

// CountSyscalls begins to count. The error says why that is not possible.
func CountSyscalls(ctx context.Context, roots ...int) (*Syscalls, error) {
	if _, err := exec.LookPath("perf"); err != nil {
		return nil, errors.New("perf is not installed")
	}
	var pids []string
	for _, pid := range Tree(roots...) {
		pids = append(pids, strconv.Itoa(pid))
	}
	s := &Syscalls{report: &strings.Builder{}}
	s.cmd = exec.CommandContext(ctx, "perf", "stat", "-x", ";",
		"-e", "raw_syscalls:sys_enter", "-p", strings.Join(pids, ","))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the lab to handle
	s.cmd.Stderr = s.report
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start perf: %w", err)
	}
	return s, nil
}

// Stop ends the counting and returns the number of calls.
func (s *Syscalls) Stop() (int64, error) {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	_ = s.cmd.Wait() // perf ends by the signal; its report says whether it worked
	for line := range strings.Lines(s.report.String()) {
		value, _, ok := strings.Cut(line, ";")
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("perf counted nothing: %s", strings.TrimSpace(s.report.String()))
}
