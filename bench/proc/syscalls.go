package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Syscalls counts the system calls of process trees with perf while a load
// runs. Counting costs time, so such a run gives no other figure.
type Syscalls struct {
	cmd    *exec.Cmd
	report *strings.Builder
}

// attachWithin bounds the wait for perf to find its threads.
const attachWithin = 5 * time.Second

// CountSyscalls begins to count, and returns when perf has hold of all threads:
// one that is made while perf still looks for them would never be counted. The
// error says why that is not possible.
func CountSyscalls(ctx context.Context, roots ...int) (*Syscalls, error) {
	if _, err := exec.LookPath("perf"); err != nil {
		return nil, errors.New("perf is not installed")
	}
	var pids []string
	for _, pid := range Tree(roots...) {
		pids = append(pids, strconv.Itoa(pid))
	}
	orders, order, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to perf: %w", err)
	}
	defer order.Close()
	reply, replies, err := os.Pipe()
	if err != nil {
		orders.Close()
		return nil, fmt.Errorf("pipe from perf: %w", err)
	}
	defer reply.Close()
	s := &Syscalls{report: &strings.Builder{}}
	s.cmd = exec.CommandContext(ctx, "perf", "stat", "-x", ";", "--delay=-1", "--control=fd:3,4",
		"-e", "raw_syscalls:sys_enter", "-p", strings.Join(pids, ","))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the lab to handle
	s.cmd.Stderr = s.report
	s.cmd.ExtraFiles = []*os.File{orders, replies}
	err = s.cmd.Start()
	orders.Close()
	replies.Close()
	if err != nil {
		return nil, fmt.Errorf("start perf: %w", err)
	}
	if err := enable(order, reply); err != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		return nil, fmt.Errorf("perf does not begin: %w: %s", err, strings.TrimSpace(s.report.String()))
	}
	return s, nil
}

// enable asks perf to begin, which it does once it has attached, and says so.
func enable(order, reply *os.File) error {
	if err := reply.SetReadDeadline(time.Now().Add(attachWithin)); err != nil {
		return err
	}
	if _, err := io.WriteString(order, "enable\n"); err != nil {
		return err
	}
	_, err := io.ReadFull(reply, make([]byte, len("ack\n")))
	return err
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
