package contender

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/counterd/counterd/bench/load"
)

// The database alone: the seed's statement, without a server in front of it.
func init() {
	Register(Contender{
		Name: "pgbench", Title: "PostgreSQL alone, UPDATE per request",
		Protocol: SQL, Kind: Durable,
		Needs: []string{"pgbench"},
		Check: postgresMissing, MaxConnections: 200,
		Start: startPgbench,
	})
}

const pgbenchUpdate = "UPDATE hits SET v = v + 1 WHERE id = 1 RETURNING v;\n"

func startPgbench(ctx context.Context, e Env) (*Instance, error) {
	db, err := e.Postgres.Create(ctx, e.Cores)
	if err != nil {
		return nil, err
	}
	script := filepath.Join(e.Data, "update.sql")
	if err := os.WriteFile(script, []byte(pgbenchUpdate), 0o644); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE hits (id int PRIMARY KEY, v bigint NOT NULL); INSERT INTO hits VALUES (1, 0)")
	if err != nil {
		return nil, fmt.Errorf("create the counter's table: %w", err)
	}
	return &Instance{
		Servers: []int{db.PID},
		Load: func(ctx context.Context, w load.Workload) (load.Result, error) {
			return load.Pgbench(ctx, db.DSN, script, w)
		},
		Count: func(ctx context.Context) (n int64, err error) {
			err = conn.QueryRow(ctx, "SELECT v FROM hits WHERE id = 1").Scan(&n)
			return n, err
		},
		Stop: func() {
			_ = conn.Close(context.Background())
			db.Drop()
		},
	}, nil
}
