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

// The seed's stack and its HTTP half alone, under both event loops.
func init() {
	for _, loop := range []string{"asyncio", "uvloop"} {
		Register(
			python("seed-"+loop, "the seed: aiohttp + asyncpg, "+loop, Durable, loop),
			python("aiohttp-"+loop, "aiohttp alone, "+loop, Memory, loop, "--mem"),
		)
	}
	Register(python("seed-paths", "the seed's stack, a row per path, asyncio", Durable, "asyncio", "--names", "10000"))
}

// interpreter is Debian's own: its packages aren't seen by another.
const interpreter = "/usr/bin/python3"

func python(name, title string, kind Kind, loop string, flags ...string) Contender {
	flags = append([]string{"--loop", loop}, flags...)
	return Contender{
		Name: name, Title: title, Stack: "aiohttp", Protocol: HTTP, Kind: kind, Containers: true,
		Check: func(e Env) error {
			if kind == Memory {
				return pythonMissing(e, "aiohttp", loop)
			}
			return errors.Join(pythonMissing(e, "aiohttp", loop, "asyncpg"), postgresMissing(e))
		},
		Start: func(ctx context.Context, e Env) (*Instance, error) {
			if kind == Memory {
				return startPython(ctx, e, flags...)
			}
			return withDatabase(ctx, e, func(db *Database) (*Instance, error) {
				return startPython(ctx, e, append(flags[:len(flags):len(flags)], "--dsn", db.URL)...)
			})
		},
	}
}

func seedScript(e Env) string { return filepath.Join(e.Peers, "seed", "server.py") }

func pythonMissing(e Env, modules ...string) error {
	if _, err := os.Stat(interpreter); err != nil {
		return fmt.Errorf("%s is not installed", interpreter)
	}
	if _, err := os.Stat(seedScript(e)); err != nil {
		return errors.New("the seed's server is not there")
	}
	for _, m := range modules {
		if err := exec.Command(interpreter, "-c", "import "+m).Run(); err != nil {
			return fmt.Errorf("%s for Python is not installed (Debian: python3-%s)", m, m)
		}
	}
	return nil
}

func startPython(ctx context.Context, e Env, flags ...string) (*Instance, error) {
	args := append([]string{interpreter, seedScript(e)}, flags...)
	if e.Docker != nil {
		return e.Docker.serve(ctx, e, append(args, "--host", "0.0.0.0", "--port", "8080"))
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(ctx, proc.Spec{
		Args:  append(args, "--port", strconv.Itoa(port)),
		Cores: e.Cores,
	})
	if err != nil {
		return nil, err
	}
	in := httpInstance(p, fmt.Sprintf("127.0.0.1:%d", port), e.Data)
	if err := untilAnswers(ctx, in.Died, in.answers); err != nil {
		in.Stop()
		return nil, fmt.Errorf("%w\n%s", err, p.Output())
	}
	return in, nil
}
