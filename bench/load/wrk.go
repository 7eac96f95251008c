package load

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed requests.lua
var requestScript []byte

// script says whether wrk's own request isn't what is asked for.
func (w Workload) script() bool { return w.depth() > 1 || w.Body > 0 || w.Paths > 0 }

// Wrk loads an HTTP server with wrk, as the seed did. dir takes its script.
func Wrk(ctx context.Context, url, dir string, w Workload) (Result, error) {
	args := []string{
		"wrk",
		"-t" + strconv.Itoa(min(w.Threads, w.Connections)),
		"-c" + strconv.Itoa(w.Connections),
		"-d" + strconv.Itoa(max(1, int(w.Duration.Round(time.Second).Seconds()))) + "s",
	}
	if !w.Plain {
		args = append(args, "--latency")
	}
	if w.Close {
		args = append(args, "-H", "Connection: close")
	}
	if w.script() {
		script := filepath.Join(dir, "requests.lua")
		if err := os.WriteFile(script, requestScript, 0o644); err != nil {
			return Result{}, fmt.Errorf("write wrk's script: %w", err)
		}
		args = append(args, "-s", script)
	}
	args = append(args, url)
	if w.script() {
		args = append(args, "--", strconv.FormatInt(w.depth(), 10), strconv.Itoa(w.Body), strconv.Itoa(w.Paths))
	}
	out, cpu, err := run(ctx, w.Cores, args...)
	if err != nil {
		return Result{}, err
	}
	r, err := ParseWrk(out)
	if err != nil {
		return Result{}, err
	}
	// A connection that broke may have left its requests behind as well.
	broken := r.Errors.Read + r.Errors.Write + r.Errors.Timeout
	r.InFlight = (int64(w.Connections) + broken) * w.depth()
	r.CPU = cpu
	r.Output = "$ " + strings.Join(args, " ") + "\n" + out
	return r, nil
}

var (
	wrkTotal   = regexp.MustCompile(`(?m)^\s*(\d+) requests in ([\d.]+[a-z]+),`)
	wrkRate    = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)`)
	wrkLatency = regexp.MustCompile(`(?m)^\s+Latency\s+([\d.]+[a-z]+)\s+([\d.]+[a-z]+)\s+([\d.]+[a-z]+)`)
	wrkPercent = regexp.MustCompile(`(?m)^\s+(\d+)%\s+([\d.]+[a-z]+)\s*$`)
	wrkErrors  = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
	wrkStatus  = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

// ParseWrk reads wrk's report.
func ParseWrk(out string) (Result, error) {
	var r Result
	total := wrkTotal.FindStringSubmatch(out)
	rate := wrkRate.FindStringSubmatch(out)
	if total == nil || rate == nil {
		return r, fmt.Errorf("wrk's report was not understood:\n%s", out)
	}
	elapsed, err := wrkTime(total[2])
	if err != nil {
		return r, err
	}
	r.Requests = integer(total[1])
	r.Elapsed = time.Duration(elapsed * float64(time.Microsecond))
	r.RPS, _ = strconv.ParseFloat(rate[1], 64)

	if m := wrkLatency.FindStringSubmatch(out); m != nil {
		for i, to := range map[int]*float64{1: &r.Latency.Mean, 3: &r.Latency.Max} {
			if *to, err = wrkTime(m[i]); err != nil {
				return r, err
			}
		}
	}
	for _, m := range wrkPercent.FindAllStringSubmatch(out, -1) {
		v, err := wrkTime(m[2])
		if err != nil {
			return r, err
		}
		switch m[1] {
		case "50":
			r.Latency.P50 = v
		case "90":
			r.Latency.P90 = v
		case "99":
			r.Latency.P99 = v
		}
	}
	if m := wrkErrors.FindStringSubmatch(out); m != nil {
		r.Errors = Errors{Connect: integer(m[1]), Read: integer(m[2]), Write: integer(m[3]), Timeout: integer(m[4])}
	}
	if m := wrkStatus.FindStringSubmatch(out); m != nil {
		r.Errors.Status = integer(m[1])
	}
	return r, nil
}

// wrkTime reads a time such as 912.00us, 1.03ms, 2.50s, 1.20m or 1.00h, in microseconds.
func wrkTime(s string) (float64, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("wrk's time: %w", err)
	}
	return float64(d) / float64(time.Microsecond), nil
}

func integer(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
