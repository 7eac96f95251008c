package contender

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/counterd/counterd/bench/proc"
)

// counterd: three engines and their stores, and gnet with a counter per path.
func init() {
	stores := []struct {
		name, title string
		kind        Kind
		flags       func(Env) []string
	}{
		{"mem", "in memory", Memory, func(Env) []string { return []string{"--store=mem:"} }},
		{"file", "durable file", Durable, func(e Env) []string {
			return []string{"--store=file:" + filepath.Join(e.Data, "count.db")}
		}},
		{"file100ms", "file every 100 ms", Periodic, func(e Env) []string {
			return []string{"--store=file:" + filepath.Join(e.Data, "count.db"), "--sync=100ms"}
		}},
		{"pg", "PostgreSQL", Durable, nil},
	}
	for _, store := range stores {
		for _, engine := range []string{"gnet", "goroutine", "std"} {
			if store.kind == Periodic && engine != "gnet" {
				continue // one shows what waiting for the disk costs
			}
			register(engine+"-"+store.name, engine+", "+store.title, store.kind, engine, store.flags)
		}
	}
	perPath := func(store func(Env) string) func(Env) []string {
		return func(e Env) []string { return []string{"--per=path", "--max-counters=2000000", "--store=" + store(e)} }
	}
	register("paths-mem", "gnet, a counter per path, in memory", Memory, "gnet",
		perPath(func(Env) string { return "mem:" }))
	register("paths-dir", "gnet, a counter per path, durable directory", Durable, "gnet",
		perPath(func(e Env) string { return "dir:" + filepath.Join(e.Data, "counts") }))
	register("paths-pg", "gnet, a counter per path, PostgreSQL", Durable, "gnet", nil)
}

// register adds a counterd. Without flags its store is a database of its own.
func register(name, title string, kind Kind, engine string, flags func(Env) []string) {
	perPath := strings.HasPrefix(name, "paths-")
	needs := []func(Env) error{built("counterd")}
	if flags == nil {
		needs = append(needs, postgresMissing)
	}
	if perPath {
		needs = append(needs, knowsPaths)
	}
	Register(Contender{
		Name: name, Title: "counterd " + title, Stack: "counterd " + engine, Protocol: HTTP, Kind: kind, Containers: !perPath,
		Check: func(e Env) error {
			for _, need := range needs {
				if err := need(e); err != nil {
					return err
				}
			}
			return nil
		},
		Start: func(ctx context.Context, e Env) (*Instance, error) {
			if flags != nil {
				return startCounterd(ctx, e, engine, flags(e))
			}
			return withDatabase(ctx, e, func(db *Database) (*Instance, error) {
				if perPath {
					return startCounterd(ctx, e, engine, []string{"--per=path", "--store=" + db.URL})
				}
				return startCounterd(ctx, e, engine, []string{"--store=" + db.URL})
			})
		},
	})
}

var helpOf sync.Map // by program

// knowsPaths says why this counterd can't count by path.
func knowsPaths(e Env) error {
	program := filepath.Join(e.Bin, "counterd")
	help, asked := helpOf.Load(program)
	if !asked {
		out, _ := exec.Command(program, "--help").CombinedOutput()
		help = string(out)
		helpOf.Store(program, help)
	}
	if !strings.Contains(help.(string), "--per ") {
		return errors.New("this counterd has no --per=path")
	}
	return nil
}

var counterdListening = regexp.MustCompile(`msg=listening .*\blisten=(\S+)`)

func startCounterd(ctx context.Context, e Env, engine string, store []string) (*Instance, error) {
	args := append([]string{filepath.Join(e.Bin, "counterd"), "--engine=" + engine, "--admin="}, store...)
	if e.Idle {
		args = append(args, "--idle-timeout=1h")
	}
	if e.Docker != nil {
		return e.Docker.serve(ctx, e, append(args, "--listen=:8080"))
	}
	var addr string
	p, err := proc.Start(ctx, proc.Spec{
		Args:  append(args, "--listen=127.0.0.1:0"),
		Cores: e.Cores,
		Ready: func(line string) bool {
			m := counterdListening.FindStringSubmatch(line)
			if m != nil {
				addr = m[1]
			}
			return m != nil
		},
	})
	if err != nil {
		return nil, err
	}
	return httpInstance(p, addr, e.Data), nil
}

// withDatabase starts a server on an empty database, which goes when it stops.
func withDatabase(ctx context.Context, e Env, start func(*Database) (*Instance, error)) (*Instance, error) {
	db, err := e.Postgres.Create(ctx, e.Cores)
	if err != nil {
		return nil, err
	}
	in, err := start(db)
	if err != nil {
		db.Drop()
		return nil, fmt.Errorf("on PostgreSQL: %w", err)
	}
	in.Backends = []int{db.PID}
	stop := in.Stop
	in.Stop = func() { stop(); db.Drop() }
	return in, nil
}
