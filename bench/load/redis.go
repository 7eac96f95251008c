package load

import (
	"context"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// RedisKey is the counter that RedisBenchmark increments.
const RedisKey = "hits"

// RedisBenchmark loads a Redis server with INCR. The tool sends a number of
// requests, not for a time: rate is the guess (per second) that turns the
// duration into a number; zero means 20,000.
func RedisBenchmark(ctx context.Context, port int, rate float64, w Workload) (Result, error) {
	if rate == 0 {
		rate = 20_000
	}
	n := int64(max(rate*w.Duration.Seconds(), 1000))
	args := []string{
		"redis-benchmark", "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-c", strconv.Itoa(w.Connections),
		"-n", strconv.FormatInt(n, 10),
		"-P", strconv.FormatInt(w.depth(), 10),
		"--csv", "INCR", RedisKey,
	}
	out, cpu, err := run(ctx, w.Cores, args...)
	if err != nil {
		return Result{}, err
	}
	r, err := parseRedis(out, n)
	r.InFlight = int64(w.Connections) * w.depth()
	r.CPU = cpu
	r.Output = "$ " + strings.Join(args, " ") + "\n" + out
	return r, err
}

func parseRedis(out string, n int64) (Result, error) {
	at := strings.Index(out, `"test"`) // warnings may stand before the table
	if at < 0 {
		return Result{}, fmt.Errorf("redis-benchmark's report was not understood:\n%s", out)
	}
	rows, err := csv.NewReader(strings.NewReader(out[at:])).ReadAll()
	if err != nil || len(rows) < 2 {
		return Result{}, fmt.Errorf("redis-benchmark's table: %w\n%s", err, out)
	}
	value := map[string]float64{}
	for i, name := range rows[0] {
		value[name], _ = strconv.ParseFloat(rows[1][i], 64)
	}
	rps := value["rps"]
	if rps == 0 {
		return Result{}, fmt.Errorf("redis-benchmark gave no rate:\n%s", out)
	}
	return Result{
		Requests: n,
		Elapsed:  time.Duration(float64(n) / rps * float64(time.Second)),
		RPS:      rps,
		Latency: Latency{
			Mean: 1e3 * value["avg_latency_ms"],
			P50:  1e3 * value["p50_latency_ms"],
			P99:  1e3 * value["p99_latency_ms"],
			Max:  1e3 * value["max_latency_ms"],
		},
	}, nil
}
