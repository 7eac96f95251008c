package contender

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/proc"
)

// Redis counts with INCR, over its own protocol and by its own load generator.
func init() {
	for _, sync := range []struct {
		mode string
		kind Kind
	}{{"everysec", Periodic}, {"always", Durable}} {
		Register(Contender{
			Name: "redis-" + sync.mode, Title: "Redis INCR, appendfsync " + sync.mode,
			Protocol: Redis, Kind: sync.kind,
			Needs: []string{"redis-server", "redis-benchmark", "redis-cli"},
			Start: func(ctx context.Context, e Env) (*Instance, error) { return startRedis(ctx, e, sync.mode) },
		})
	}
}

func startRedis(ctx context.Context, e Env, sync string) (*Instance, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(ctx, proc.Spec{
		Args: []string{"redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
			"--dir", e.Data, "--save", "", "--appendonly", "yes", "--appendfsync", sync},
		Cores: e.Cores,
		Ready: func(line string) bool { return strings.Contains(line, "Ready to accept connections") },
	})
	if err != nil {
		return nil, err
	}
	rate := 0.0 // as the warm-up found it
	return &Instance{
		Servers: []int{p.PID},
		Load: func(ctx context.Context, w load.Workload) (load.Result, error) {
			r, err := load.RedisBenchmark(ctx, port, rate, w)
			rate = r.RPS
			return r, err
		},
		Count: func(ctx context.Context) (int64, error) { return redisCount(ctx, port) },
		Died:  p.Died,
		Stop:  p.Stop,
	}, nil
}

func redisCount(ctx context.Context, port int) (int64, error) {
	out, err := exec.CommandContext(ctx, "redis-cli", "-p", strconv.Itoa(port), "GET", load.RedisKey).Output()
	if err != nil {
		return 0, fmt.Errorf("redis-cli GET: %w", err)
	}
	text := strings.TrimSpace(string(out))
	if text == "" {
		return 0, nil // nothing counted yet
	}
	return strconv.ParseInt(text, 10, 64)
}
