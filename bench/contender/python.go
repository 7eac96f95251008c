package contender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/counterd/counterd/bench/proc"
)

// The seed's stack, and its HTTP half alone, under both event loops.
func init() {
	for _, loop := range []string{"asyncio", "uvloop"} {
		Register(
			Contender{
				Name: "seed-" + loop, Title: "seed: aiohttp + asyncpg, " + loop,
				Protocol: HTTP, Kind: Durable,
				Check: func(e Env) error { return errors.Join(pythonMissing(e, loop, true), postgresMissing(e)) },
				Start: func(ctx context.Context, e Env) (*Instance, error) { return startSeed(ctx, e, loop) },
			},
			Contender{
				Name: "aiohttp-" + loop, Title: "aiohttp alone, " + loop,
				Protocol: HTTP, Kind: Memory,
				Check: func(e Env) error { return pythonMissing(e, loop, false) },
				Start: func(ctx context.Context, e Env) (*Instance, error) {
					return startPython(ctx, e, "--loop", loop, "--mem")
				},
			},
		)
	}
}

// python is Debian's own: its packages aren't seen by another.
const python = "/usr/bin/python3"

func seedScript(e Env) string { return filepath.Join(e.Peers, "seed", "server.py") }

func pythonMissing(e Env, loop string, db bool) error {
	if _, err := os.Stat(python); err != nil {
		return fmt.Errorf("%s is not installed", python)
	}
	if _, err := os.Stat(seedScript(e)); err != nil {
		return errors.New("the seed's server is not there")
	}
	modules := []string{"aiohttp"}
	if loop == "uvloop" {
		modules = append(modules, "uvloop")
	}
	if db {
		modules = append(modules, "asyncpg")
	}
	for _, m := range modules {
		if err := exec.Command(python, "-c", "import "+m).Run(); err != nil {
			return fmt.Errorf("%s for Python is not installed (Debian: python3-%s)", m, m)
		}
	}
	return nil
}

func startSeed(ctx context.Context, e Env, loop string) (*Instance, error) {
	db, err := e.Postgres.Create(ctx, e.Cores)
	if err != nil {
		return nil, err
	}
	in, err := startPython(ctx, e, "--loop", loop, "--dsn", db.URL)
	if err != nil {
		db.Drop()
		return nil, err
	}
	in.Backends = []int{db.PID}
	stop := in.Stop
	in.Stop = func() { stop(); db.Drop() }
	return in, nil
}

func startPython(ctx context.Context, e Env, flags ...string) (*Instance, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args := append([]string{python, seedScript(e)}, flags...)
	p, err := proc.Start(ctx, proc.Spec{
		Args:  append(args, "--port", strconv.Itoa(port)),
		Cores: e.Cores,
	})
	if err != nil {
		return nil, err
	}
	in := httpInstance(p, fmt.Sprintf("127.0.0.1:%d", port), e.Data)
	err = untilAnswers(ctx, p, func(ctx context.Context) error {
		_, err := in.Count(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return in, nil
}
