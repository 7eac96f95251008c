package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/internal/proctest"
)

// startTimeout bounds every wait for a server to start, stop or catch up.
const startTimeout = 60 * time.Second

// Superuser is the role that initdb made; it needs no password.
const Superuser = "postgres"

// Cluster is one PostgreSQL server: a primary, or a standby of one. Its
// methods fail the test when the server does not do what they say. They are
// for one goroutine at a time.
type Cluster struct {
	tb   testing.TB
	dir  string // holds data, the socket and the log
	host string
	port int
	run  *process
}

// Option changes how New sets up a cluster.
type Option func(*setup)

type setup struct {
	conf  []string
	hba   []string
	files [][2]string
}

// Config adds a line to postgresql.conf.
func Config(line string) Option {
	return func(s *setup) { s.conf = append(s.conf, line) }
}

// File puts a file, such as a certificate, into the data directory.
func File(name, text string) Option {
	return func(s *setup) { s.files = append(s.files, [2]string{name, text}) }
}

// HBA replaces the rules of pg_hba.conf, which otherwise trust everyone on the
// loopback. The superuser is trusted all the same.
func HBA(lines ...string) Option {
	return func(s *setup) { s.hba = lines }
}

// New starts a primary and stops it at the end of the test.
func New(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	c := newCluster(tb)
	if err := copyTree(template(tb), c.data()); err != nil {
		tb.Fatalf("pgtest: copy the template cluster: %v", err)
	}
	var s setup
	for _, o := range opts {
		o(&s)
	}
	c.configure(s.conf)
	for _, f := range s.files {
		c.WriteFile(f[0], f[1])
	}
	if s.hba != nil {
		trust := []string{
			"local all " + Superuser + " trust",
			"host all " + Superuser + " 127.0.0.1/32 trust",
			"host replication " + Superuser + " 127.0.0.1/32 trust",
		}
		c.WriteFile("pg_hba.conf", strings.Join(append(trust, s.hba...), "\n")+"\n")
	}
	c.Start()
	return c
}

// Standby starts a streaming standby of c under the given application name,
// the one that synchronous_standby_names refers to.
func (c *Cluster) Standby(name string) *Cluster {
	c.tb.Helper()
	s := newCluster(c.tb)
	s.tool("pg_basebackup", "--pgdata", s.data(), "--host", c.host, "--port", strconv.Itoa(c.port),
		"--username", Superuser, "--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	s.configure([]string{fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=%s application_name=%s'", c.host, c.port, Superuser, name)})
	// ALTER SYSTEM of the primary came along with the backup, and it would win
	// over postgresql.conf.
	s.WriteFile("postgresql.auto.conf", "")
	s.Start()
	return s
}

// Synchronous makes every commit of c wait for the standby of this name, and
// returns once that standby streams and counts as synchronous.
func (c *Cluster) Synchronous(name string) {
	c.tb.Helper()
	c.Exec(fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", name))
	c.Exec("SELECT pg_reload_conf()")
	c.Await(fmt.Sprintf("SELECT 1 FROM pg_stat_replication WHERE application_name = '%s' AND sync_state = 'sync' AND state = 'streaming'", name))
}

// CutOff separates the standby c from its primary: commits that must wait for
// it wait from now on.
func (c *Cluster) CutOff() {
	c.tb.Helper()
	c.Exec("ALTER SYSTEM SET primary_conninfo = ''")
	c.Exec("SELECT pg_reload_conf()")
	c.Await("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
}

// Promote makes the standby c a primary and waits until it takes writes.
func (c *Cluster) Promote() {
	c.tb.Helper()
	c.Exec("SELECT pg_promote(true, 60)")
	c.Await("SELECT 1 WHERE NOT pg_is_in_recovery()")
}

// Start starts a server that is not running, on the same port, and waits until
// it accepts connections.
func (c *Cluster) Start() {
	c.tb.Helper()
	if c.run != nil {
		c.tb.Fatal("pgtest: Start of a running cluster")
	}
	p, err := start(c.binary("postgres"), filepath.Join(c.dir, "log"), "-D", c.data())
	if err != nil {
		c.tb.Fatalf("pgtest: start postgres: %v", err)
	}
	c.run = p
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := c.ping(ctx)
		if err == nil {
			return
		}
		select {
		case <-p.done:
			c.run = nil
			c.tb.Fatalf("pgtest: postgres ended at start: %v\n%s", p.err, c.Log())
		case <-ctx.Done():
			c.tb.Fatalf("pgtest: postgres does not accept connections: %v\n%s", err, c.Log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the server at once, without writing anything more: what pg_ctl
// calls immediate. Start recovers it.
func (c *Cluster) Stop() { c.end(syscall.SIGQUIT) }

// StopFast ends the server in order: sessions are ended, a standby gets
// everything.
func (c *Cluster) StopFast() { c.end(syscall.SIGINT) }

// Kill sends SIGKILL to the server and to each of its backends.
func (c *Cluster) Kill() {
	c.tb.Helper()
	if c.run == nil {
		return
	}
	// Backends whose postmaster is gone notice it soon, but only while they
	// wait. Killing them too leaves nothing that could still commit. Stopped
	// first, the postmaster can neither start another nor react.
	pid := c.run.pid()
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	backends := children(pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for _, b := range backends {
		_ = syscall.Kill(b, syscall.SIGKILL)
	}
	<-c.run.done
	c.run = nil
	for _, b := range backends {
		for syscall.Kill(b, 0) == nil && !zombie(b) {
			time.Sleep(time.Millisecond)
		}
	}
}

// KillBackend sends SIGKILL to the backends that match a condition on
// pg_stat_activity. PostgreSQL then restarts all of its backends, and has begun to
// when KillBackend returns.
func (c *Cluster) KillBackend(where string) {
	c.tb.Helper()
	pids := c.Query("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE " + where)
	for _, f := range strings.Fields(pids) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			c.tb.Fatalf("pgtest: %v", err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for syscall.Kill(pid, 0) == nil { // until the postmaster knows
			time.Sleep(time.Millisecond)
		}
	}
}

// Pause stops the server and its backends in their tracks (SIGSTOP): sockets
// stay open, nothing answers. Resume continues them.
func (c *Cluster) Pause() { c.signalAll(syscall.SIGSTOP) }

// Resume continues what Pause stopped.
func (c *Cluster) Resume() { c.signalAll(syscall.SIGCONT) }

// Running tells whether the server was started and not ended by a method.
func (c *Cluster) Running() bool { return c.run != nil }

// Addr is the host and port the server listens on.
func (c *Cluster) Addr() string { return net.JoinHostPort(c.host, strconv.Itoa(c.port)) }

// URL is the connection string of the superuser over TCP. Each param is a
// key=value of the query part.
func (c *Cluster) URL(params ...string) string {
	return URL([]string{c.Addr()}, Superuser, params...)
}

// URL makes a connection string over one or more addresses for a role.
func URL(addrs []string, role string, params ...string) string {
	q := append([]string{"sslmode=disable"}, params...)
	return "postgres://" + url.PathEscape(role) + "@" + strings.Join(addrs, ",") + "/postgres?" + strings.Join(q, "&")
}

// SocketDir is the directory of the server's Unix socket, and Port its port.
func (c *Cluster) SocketDir() string { return c.dir }

// Port is the port of the server.
func (c *Cluster) Port() int { return c.port }

// Exec runs SQL as the superuser and fails the test on an error.
func (c *Cluster) Exec(sql string) {
	c.tb.Helper()
	if _, err := c.query(sql); err != nil {
		c.tb.Fatalf("pgtest: %s: %v", sql, err)
	}
}

// Query runs SQL as the superuser and returns the first column of the first
// row, or "" when there is none.
func (c *Cluster) Query(sql string) string {
	c.tb.Helper()
	v, err := c.query(sql)
	if err != nil {
		c.tb.Fatalf("pgtest: %s: %v", sql, err)
	}
	return v
}

// TryQuery is Query that returns its error: for a server that may be down.
func (c *Cluster) TryQuery(sql string) (string, error) { return c.query(sql) }

// Await runs a query until it returns a row.
func (c *Cluster) Await(sql string) {
	c.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		v, err := c.query(sql)
		if err == nil && v != "" {
			return
		}
		if time.Now().After(deadline) {
			c.tb.Fatalf("pgtest: no row in %v: %s (%v)", startTimeout, sql, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Log returns the end of the server's log.
func (c *Cluster) Log() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// Binary returns the path of a PostgreSQL program, such as pgbench, of the
// newest version that is installed.
func Binary(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := binDir()
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	return filepath.Join(dir, name)
}

func newCluster(tb testing.TB) *Cluster {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pgtest") // short: a socket path ends at 107 bytes
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	c := &Cluster{tb: tb, dir: dir, host: "127.0.0.1", port: proctest.FreePort(tb)}
	tb.Cleanup(func() {
		c.Kill()
		if tb.Failed() {
			tb.Logf("pgtest: the log of the server on port %d ends with:\n%s", c.port, c.Log())
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	if err := own(dir); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	return c
}

func (c *Cluster) data() string              { return filepath.Join(c.dir, "data") }
func (c *Cluster) binary(name string) string { return Binary(c.tb, name) }

func (c *Cluster) configure(lines []string) {
	c.tb.Helper()
	f, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.tb.Fatalf("pgtest: %v", err)
	}
	own := []string{
		"listen_addresses = '" + c.host + "'",
		"port = " + strconv.Itoa(c.port),
		"unix_socket_directories = '" + c.dir + "'",
	}
	_, err = f.WriteString("\n" + strings.Join(slices.Concat(own, lines), "\n") + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		c.tb.Fatalf("pgtest: %v", err)
	}
}

// WriteFile puts a file, such as a certificate, into the data directory.
func (c *Cluster) WriteFile(name, text string) {
	c.tb.Helper()
	path := filepath.Join(c.data(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.tb.Fatalf("pgtest: %v", err)
	}
	if err := own(path); err != nil {
		c.tb.Fatalf("pgtest: %v", err)
	}
}

func (c *Cluster) tool(name string, args ...string) {
	c.tb.Helper()
	cmd := command(c.binary(name), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.tb.Fatalf("pgtest: %s: %v\n%s", name, err, out)
	}
}

func (c *Cluster) end(sig syscall.Signal) {
	c.tb.Helper()
	if c.run == nil {
		return
	}
	_ = syscall.Kill(c.run.pid(), sig)
	select {
	case <-c.run.done:
		c.run = nil
	case <-time.After(startTimeout):
		c.tb.Fatalf("pgtest: postgres did not end on %v\n%s", sig, c.Log())
	}
}

func (c *Cluster) signalAll(sig syscall.Signal) {
	if c.run == nil {
		return
	}
	_ = syscall.Kill(c.run.pid(), sig)
	for _, b := range children(c.run.pid()) {
		_ = syscall.Kill(b, sig)
	}
}

func (c *Cluster) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.URL())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func (c *Cluster) query(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.URL())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 || len(last.Rows[0]) == 0 {
		return "", nil
	}
	return string(last.Rows[0][0]), nil
}

// binDir finds the newest installed PostgreSQL: Debian's layout first, then
// the PATH.
var binDir = sync.OnceValues(func() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	sort.Slice(dirs, func(i, j int) bool { return debianVersion(dirs[i]) > debianVersion(dirs[j]) })
	if len(dirs) > 0 {
		return filepath.Dir(dirs[0]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL's server programs are not installed (Debian: apt-get install postgresql); these tests need the real thing")
	}
	path, err = filepath.EvalSymlinks(path)
	return filepath.Dir(path), err
})

func debianVersion(path string) float64 {
	v, _ := strconv.ParseFloat(strings.Split(path, "/")[4], 64)
	return v
}

// template makes an initialised, never started data directory once per
// process, so that each test pays for a copy instead of an initdb.
func template(tb testing.TB) string {
	tb.Helper()
	dir, err := makeTemplate()
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	return dir
}

var makeTemplate = sync.OnceValues(func() (string, error) {
	bin, err := binDir()
	if err != nil {
		return "", err
	}
	// Shared by all test processes of this user and PostgreSQL version. It
	// stays for the next run; making it again costs a second.
	name := fmt.Sprintf("pgtest-template-%s-%d", filepath.Base(filepath.Dir(bin)), os.Getuid())
	final := filepath.Join(os.TempDir(), name)
	if complete(final) {
		return final, nil
	}
	tmp, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := own(tmp); err != nil {
		return "", err
	}
	cmd := command(filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(tmp, "data"), "--username", Superuser,
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// The rename publishes it whole. Losing the race against another process
	// is as good as winning it.
	if err := os.Rename(filepath.Join(tmp, "data"), final); err != nil && !complete(final) {
		return "", fmt.Errorf("publish the template cluster: %w", err)
	}
	return final, nil
})

// complete guards against a template that a cleaner of /tmp has gnawed at:
// every file of initdb's list must be there, the last ones included.
func complete(dir string) bool {
	for _, f := range []string{"PG_VERSION", "postgresql.conf", "pg_hba.conf", "global/pg_control", "base/1/PG_VERSION", "pg_wal"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			return false
		}
	}
	return true
}

func copyTree(from, to string) error {
	out, err := exec.Command("cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
