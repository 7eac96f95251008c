package load

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	pgbenchTotal   = regexp.MustCompile(`number of transactions actually processed: (\d+)`)
	pgbenchRate    = regexp.MustCompile(`tps = ([\d.]+) `)
	pgbenchLatency = regexp.MustCompile(`latency average = ([\d.]+) ms`)
	pgbenchFailed  = regexp.MustCompile(`number of failed transactions: (\d+)`)
)

// Pgbench runs a script against PostgreSQL from every connection at once.
func Pgbench(ctx context.Context, dsn, script string, w Workload) (Result, error) {
	args := []string{
		"pgbench", "-n", "-M", "prepared", "-f", script,
		"-c", strconv.Itoa(w.Connections),
		"-j", strconv.Itoa(min(w.Threads, w.Connections)),
		"-T", strconv.Itoa(max(1, int(w.Duration.Round(time.Second).Seconds()))),
		dsn,
	}
	out, cpu, err := run(ctx, w.Cores, args...)
	if err != nil {
		return Result{}, err
	}
	r, err := parsePgbench("$ " + strings.Join(args, " ") + "\n" + out)
	r.CPU = cpu
	return r, err
}

func parsePgbench(out string) (Result, error) {
	total := pgbenchTotal.FindStringSubmatch(out)
	rate := pgbenchRate.FindStringSubmatch(out)
	if total != nil && total[1] == "0" {
		return Result{Output: out}, nil // so slow that it gives no rate
	}
	if total == nil || rate == nil {
		return Result{}, fmt.Errorf("pgbench's report was not understood:\n%s", out)
	}
	r := Result{Requests: integer(total[1]), Output: out}
	r.RPS, _ = strconv.ParseFloat(rate[1], 64)
	r.Elapsed = time.Duration(float64(r.Requests) / r.RPS * float64(time.Second))
	if m := pgbenchLatency.FindStringSubmatch(out); m != nil {
		ms, _ := strconv.ParseFloat(m[1], 64)
		r.Latency.Mean = 1e3 * ms
	}
	if m := pgbenchFailed.FindStringSubmatch(out); m != nil {
		r.Errors.Status = integer(m[1])
	}
	return r, nil
}
