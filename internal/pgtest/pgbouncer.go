package pgtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/proctest"
)

// PgBouncer starts PgBouncer in transaction mode in front of c, with at most
// pool connections to it, and returns its address. It ends with the test.
func (c *Cluster) PgBouncer(pool int) (addr string) {
	c.tb.Helper()
	path := pgbouncer(c.tb)
	dir, err := os.MkdirTemp("", "pgbouncer")
	if err != nil {
		c.tb.Fatalf("pgtest: %v", err)
	}
	c.tb.Cleanup(func() { os.RemoveAll(dir) })
	port := proctest.FreePort(c.tb)
	ini := filepath.Join(dir, "pgbouncer.ini")
	users := filepath.Join(dir, "users")
	conf := fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = %d
`, c.host, c.port, port, users, pool)
	for name, text := range map[string]string{ini: conf, users: `"` + Superuser + `" ""` + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			c.tb.Fatalf("pgtest: %v", err)
		}
	}
	if err := own(dir); err != nil {
		c.tb.Fatalf("pgtest: %v", err)
	}
	log := filepath.Join(dir, "log")
	p, err := start(path, log, ini)
	if err != nil {
		c.tb.Fatalf("pgtest: start pgbouncer: %v", err)
	}
	c.tb.Cleanup(func() {
		_ = syscall.Kill(p.pid(), syscall.SIGKILL)
		<-p.done
	})
	addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	deadline := time.Now().Add(startTimeout)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		select {
		case <-p.done:
			out, _ := os.ReadFile(log)
			c.tb.Fatalf("pgtest: pgbouncer ended at start: %v\n%s", p.err, out)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			c.tb.Fatalf("pgtest: pgbouncer does not accept connections: %v", err)
		}
	}
}

func pgbouncer(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // not in everybody's PATH
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatal("pgtest: PgBouncer is not installed (Debian: apt-get install pgbouncer); this test needs the real thing")
	}
	return path
}
