package contender

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/counterd/counterd/bench/proc"
)

// Cluster is a throw-away PostgreSQL with default settings, fsync included. It
// starts when the first contender asks for a database.
type Cluster struct {
	Dir    string  // parent of its data, on a real disk
	Docker *Docker // to run in a container; nil: beside the others

	mu      sync.Mutex
	pid     int // of the postmaster; 0: not started
	stop    func()
	dir     string
	host    string
	port    int
	created int
}

// Database is an empty database of its own for one start of one contender.
type Database struct {
	URL  string // postgres://…
	DSN  string // for pgbench
	PID  int    // postmaster
	name string
	c    *Cluster
}

// pgUser owns the cluster: PostgreSQL refuses to run as root.
func pgUser() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	return ""
}

// pgProgram finds a program of PostgreSQL; Debian keeps them off the PATH.
func pgProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return "", fmt.Errorf("PostgreSQL's %s is not installed", name)
	}
	return found[len(found)-1], nil
}

func postgresMissing(Env) error {
	_, err1 := pgProgram("initdb")
	_, err2 := pgProgram("postgres")
	return errors.Join(err1, err2)
}

// Create makes an empty database and binds the cluster to the cores.
func (c *Cluster) Create(ctx context.Context, cores []int) (*Database, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == 0 {
		if err := c.start(ctx); err != nil {
			return nil, fmt.Errorf("start a PostgreSQL cluster: %w", err)
		}
	}
	if c.Docker == nil {
		if err := proc.Pin(cores, c.pid); err != nil {
			return nil, err
		}
	}
	c.created++
	name := "bench" + strconv.Itoa(c.created)
	if err := c.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, err
	}
	return &Database{
		URL:  c.url(name),
		DSN:  fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", c.host, c.port, name),
		PID:  c.pid,
		name: name,
		c:    c,
	}, nil
}

func (c *Cluster) url(db string) string {
	return fmt.Sprintf("postgres://postgres@%s:%d/%s?sslmode=disable", c.host, c.port, db)
}

func (c *Cluster) start(ctx context.Context) error {
	initdb, err := pgProgram("initdb")
	if err != nil {
		return err
	}
	postgres, err := pgProgram("postgres")
	if err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp(c.Dir, "postgres-"); err != nil {
		return err
	}
	if err := giveTo(pgUser(), c.dir); err != nil {
		return err
	}
	data := filepath.Join(c.dir, "data")
	setup, err := proc.Start(ctx, proc.Spec{
		Args:        []string{initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"},
		Dir:         c.dir,
		User:        pgUser(),
		Ready:       func(line string) bool { return strings.HasPrefix(line, "Success.") },
		ReadyWithin: time.Minute,
	})
	if err != nil {
		return err
	}
	setup.Stop()
	if c.Docker != nil {
		return c.runContained(ctx, postgres, data)
	}
	c.host = "127.0.0.1"
	if c.port, err = freePort(); err != nil {
		return err
	}
	process, err := proc.Start(ctx, proc.Spec{
		Args: []string{postgres, "-D", data, "-p", strconv.Itoa(c.port),
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + c.dir,
			"-c", "max_connections=250"},
		Dir:         c.dir,
		User:        pgUser(),
		StopBy:      syscall.SIGINT, // SIGTERM would wait for its clients
		Ready:       func(line string) bool { return strings.Contains(line, "ready to accept connections") },
		ReadyWithin: time.Minute,
	})
	if err != nil {
		return err
	}
	c.pid, c.stop = process.PID, process.Stop
	return nil
}

// runContained starts the cluster in a container that others on the bridge reach.
func (c *Cluster) runContained(ctx context.Context, postgres, data string) error {
	rules, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = rules.WriteString("host all all all trust\n")
	if err := errors.Join(err, rules.Close()); err != nil {
		return err
	}
	info, err := os.Stat(data)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	box, err := c.Docker.run(ctx, Env{Data: c.dir},
		[]string{"--user", fmt.Sprintf("%d:%d", owner.Uid, owner.Gid)},
		[]string{postgres, "-D", data, "-c", "listen_addresses=*", "-c", "unix_socket_directories=" + c.dir, "-c", "max_connections=250"})
	if err != nil {
		return err
	}
	if c.host, err = box.address(ctx); err != nil {
		box.remove()
		return err
	}
	c.port = 5432
	err = untilAnswers(ctx, nil, func(ctx context.Context) error { return c.exec(ctx, "SELECT 1") })
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, box.logs())
		box.remove()
		return err
	}
	c.pid, c.stop = box.pid, box.remove
	return nil
}

func giveTo(name, dir string) error {
	if name == "" {
		return nil
	}
	u, err := lookupUser(name)
	if err != nil {
		return err
	}
	// Every parent must let the user through; the lab's own directories do.
	return os.Chown(dir, u.uid, u.gid)
}

func (c *Cluster) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, c.url("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Drop removes the database.
func (d *Database) Drop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = d.c.exec(ctx, "DROP DATABASE "+d.name+" WITH (FORCE)")
}

// Version says what the cluster is.
func (c *Cluster) Version() string {
	postgres, err := pgProgram("postgres")
	if err != nil {
		return ""
	}
	out, _ := exec.Command(postgres, "--version").Output()
	return strings.TrimSpace(string(out))
}

// Close stops the cluster and removes its files.
func (c *Cluster) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
	c.pid, c.stop = 0, nil
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}
