// Package load generates the load and reports what the client saw.
//
// Closed loops (wrk, redis-benchmark, pgbench) keep every connection busy:
// they find a server's maximum. The open loop sends at a constant rate whether
// or not the server keeps up: it finds latency as independent users have it.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/counterd/counterd/bench/proc"
)

// Workload says how to load a server.
type Workload struct {
	Connections int
	Threads     int // of the client
	Pipeline    int // requests on the way per connection; 0 and 1 are the same
	Duration    time.Duration
	Body        int // bytes of each request's body
	Paths       int // requests go to /1 … /Paths in random order; 0: to /
	// Close asks for a connection per request.
	Close bool
	// Plain leaves out what the seed's command line didn't have.
	Plain bool
	// Cores the client is bound to; none means all.
	Cores []int
}

func (w Workload) depth() int64 { return int64(max(w.Pipeline, 1)) }

// Latency in microseconds. A zero percentile was not reported by the tool.
type Latency struct {
	Mean float64 `json:"mean,omitempty"`
	P50  float64 `json:"p50,omitempty"`
	P90  float64 `json:"p90,omitempty"`
	P99  float64 `json:"p99,omitempty"`
	P999 float64 `json:"p99_9,omitempty"`
	Max  float64 `json:"max,omitempty"`
}

// Errors the client met.
type Errors struct {
	Connect int64 `json:"connect,omitempty"`
	Read    int64 `json:"read,omitempty"`
	Write   int64 `json:"write,omitempty"`
	Timeout int64 `json:"timeout,omitempty"`
	// Status counts answers other than 2xx and 3xx.
	Status int64 `json:"status,omitempty"`
}

// Result is what the client saw.
type Result struct {
	// Requests that were answered.
	Requests int64         `json:"requests"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	RPS      float64       `json:"rps"`
	Latency  Latency       `json:"latency_us"`
	Errors   Errors        `json:"errors,omitzero"`
	// InFlight bounds the requests that were sent and may have been counted
	// though the client had no answer when it ended.
	InFlight int64 `json:"in_flight_max"`
	// Lag is the 99th percentile of how late the open loop's own sends were.
	Lag float64 `json:"sender_lag_p99_us,omitempty"`
	// Backlog counts the requests that an open loop could not send at all.
	Backlog int64 `json:"unsent,omitempty"`
	// CPU time of the client.
	CPU time.Duration `json:"client_cpu_ns,omitempty"`
	// Output is the tool's, word for word.
	Output string `json:"-"`
}

// Busy is how much of a core the client used: near 1 per thread the client is
// what limits the figure.
func (r Result) Busy() float64 {
	if r.Elapsed == 0 {
		return 0
	}
	return r.CPU.Seconds() / r.Elapsed.Seconds()
}

// run executes a load generator to its end and returns what it printed and the
// CPU time it used.
func run(ctx context.Context, cores []int, args ...string) (string, time.Duration, error) {
	if len(cores) > 0 {
		args = append([]string{"taskset", "-c", proc.CoreList(cores)}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the lab to handle
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", 0, ctx.Err()
	}
	var missing *exec.Error
	if errors.As(err, &missing) {
		return "", 0, err
	}
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(failure.String()+out.String()))
	}
	return out.String(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
