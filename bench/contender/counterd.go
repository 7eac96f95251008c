package contender

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/counterd/counterd/bench/proc"
)

// counterd: three engines, four stores.
func init() {
	stores := []struct {
		name, title string
		kind        Kind
		flags       func(Env) []string
	}{
		{"mem", "in memory", Memory, func(Env) []string { return []string{"--store=mem:"} }},
		{"file", "durable file", Durable, func(e Env) []string {
			return []string{"--store=file:" + filepath.Join(e.Data, "count.db"), "--sync=always"}
		}},
		{"file100ms", "file every 100 ms", Periodic, func(e Env) []string {
			return []string{"--store=file:" + filepath.Join(e.Data, "count.db"), "--sync=100ms"}
		}},
		{"pg", "PostgreSQL", Durable, nil},
	}
	for _, store := range stores {
		for _, engine := range []string{"gnet", "goroutine", "std"} {
			c := Contender{
				Name:       engine + "-" + store.name,
				Title:      "counterd " + engine + ", " + store.title,
				Protocol:   HTTP,
				Kind:       store.kind,
				Check:      built("counterd"),
				Containers: store.name != "pg",
				Start: func(ctx context.Context, e Env) (*Instance, error) {
					return startCounterd(ctx, e, engine, store.flags(e))
				},
			}
			if store.name == "pg" {
				c.Check = both(built("counterd"), postgresMissing)
				c.Start = func(ctx context.Context, e Env) (*Instance, error) {
					return startCounterdOnPostgres(ctx, e, engine)
				}
			}
			Register(c)
		}
	}
}

func both(a, b func(Env) error) func(Env) error {
	return func(e Env) error {
		if err := a(e); err != nil {
			return err
		}
		return b(e)
	}
}

var counterdListening = regexp.MustCompile(`msg=listening .*\blisten=(\S+)`)

func startCounterd(ctx context.Context, e Env, engine string, store []string) (*Instance, error) {
	if e.Docker != nil {
		return e.Docker.start(ctx, e, append([]string{"/counterd",
			"--engine=" + engine, "--listen=:8080", "--admin="}, inContainer(e, store)...))
	}
	var addr string
	p, err := proc.Start(ctx, proc.Spec{
		Args: append([]string{filepath.Join(e.Bin, "counterd"),
			"--engine=" + engine, "--listen=127.0.0.1:0", "--admin="}, store...),
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

func startCounterdOnPostgres(ctx context.Context, e Env, engine string) (*Instance, error) {
	db, err := e.Postgres.Create(ctx, e.Cores)
	if err != nil {
		return nil, err
	}
	in, err := startCounterd(ctx, e, engine, []string{"--store=" + db.URL})
	if err != nil {
		db.Drop()
		return nil, fmt.Errorf("on PostgreSQL: %w", err)
	}
	in.Backends = []int{db.PID}
	stop := in.Stop
	in.Stop = func() { stop(); db.Drop() }
	return in, nil
}
