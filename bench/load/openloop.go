package load

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

// The open loop is ours and not vegeta's: at 75 % of what these servers do it
// must send more than 100,000 requests a second from one core, several times
// what a net/http client can. Latency runs from the moment a request was due,
// so a server that stalls is charged for every request that fell due meanwhile.

// OpenLoopCommand is the lab's hidden subcommand that runs Send in a process
// of its own, so that it can be bound to a core.
const OpenLoopCommand = "open-loop"

// OpenLoop sends at the given rate per second over w.Connections connections.
func OpenLoop(ctx context.Context, addr string, rate float64, w Workload) (Result, error) {
	self, err := os.Executable()
	if err != nil {
		return Result{}, fmt.Errorf("find the lab's own program: %w", err)
	}
	out, cpu, err := run(ctx, w.Cores, self, OpenLoopCommand, addr,
		strconv.FormatFloat(rate, 'f', 1, 64), strconv.Itoa(w.Connections), w.Duration.String())
	if err != nil {
		return Result{}, err
	}
	var r Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return Result{}, fmt.Errorf("the open loop's report: %w", err)
	}
	r.CPU = cpu
	return r, nil
}

// OpenLoopMain is the subcommand: ADDRESS RATE CONNECTIONS DURATION.
func OpenLoopMain(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: %s ADDRESS RATE CONNECTIONS DURATION", OpenLoopCommand)
	}
	rate, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		return fmt.Errorf("rate: %w", err)
	}
	conns, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("connections: %w", err)
	}
	d, err := time.ParseDuration(args[3])
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	r, err := Send(args[0], rate, conns, d)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
