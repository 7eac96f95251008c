package pgstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/pgtest"
)

// What these tests have in common: something in or around the database changes
// while counterd runs, or was changed while it didn't.

// TestCredentialsRotated: a password or a certificate is replaced in the file that
// it comes from, and the old one stops working.
func TestCredentialsRotated(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	nextCert, nextKey := certificate(t)
	c := pgtest.New(t, pgtest.Config("ssl = on"), pgtest.HBA("host all counterd 127.0.0.1/32 scram-sha-256"),
		pgtest.File("server.crt", cert), pgtest.File("server.key", key))
	c.Exec("CREATE ROLE counterd LOGIN PASSWORD 'first'; GRANT CREATE ON SCHEMA public TO counterd")

	dir := t.TempDir()
	root, passfile, servicefile := filepath.Join(dir, "root.crt"), filepath.Join(dir, "pass"), filepath.Join(dir, "service")
	issue := func(password, cert string) {
		for path, text := range map[string]string{
			root:        cert,
			passfile:    "*:*:*:*:" + password + "\n",
			servicefile: "[counters]\npassword=" + password + "\n",
		} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	issue("first", cert)
	base := "postgres://counterd@" + c.Addr() + "/postgres?sslmode=verify-full&sslrootcert=" + root
	stores := []*Store{
		mustOpen(t, base+"&passfile="+passfile, testOptions(t)),
		mustOpen(t, base+"&service=counters&servicefile="+servicefile, testOptions(t)),
	}

	c.Exec("ALTER ROLE counterd PASSWORD 'second'")
	c.WriteFile("server.crt", nextCert)
	c.WriteFile("server.key", nextKey)
	c.Exec("SELECT pg_reload_conf()")
	issue("second", nextCert)
	c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'counterd'")
	for i, s := range stores {
		mustAdd(t, s, 1, int64(i)+1)
	}
}

// reconfigure has the server take other settings, also for the sessions that it has.
func reconfigure(c *pgtest.Cluster, settings ...string) {
	for _, s := range settings {
		c.Exec("ALTER SYSTEM SET " + s)
	}
	c.Exec("SELECT pg_reload_conf()")
	name, want, _ := strings.Cut(settings[len(settings)-1], " = ")
	c.Await("SELECT 1 WHERE current_setting('" + name + "') = '" + strings.Trim(want, "'") + "'")
}

// TestSynchronousCommitSwitchedOff: after a reload that switches it off, and for
// sessions of a pooler that a role's setting has switched it off for, every hit
// that is answered outlives a crash.
func TestSynchronousCommitSwitchedOff(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]func(c *pgtest.Cluster){
		"reload": func(c *pgtest.Cluster) { reconfigure(c, "synchronous_commit = off") },
		"role": func(c *pgtest.Cluster) {
			c.Exec("ALTER ROLE " + pgtest.Superuser + " SET synchronous_commit = off")
			c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counterd'")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Config("wal_writer_delay = 10s"))
			s := mustOpen(t, pgtest.URL([]string{c.PgBouncer(1)}, pgtest.Superuser), testOptions(t))
			mustAdd(t, s, 1, 1)
			off(c)
			for i := range int64(20) {
				mustAdd(t, s, 1, i+2)
			}
			c.Kill()
			c.Start()
			if got := value(t, c); got != "21" {
				t.Fatalf("after the crash: %s, want 21", got)
			}
		})
	}
}

// TestWarningsSwitchedOff: by a reload commits don't wait for the standby any more,
// and the server doesn't say so.
func TestWarningsSwitchedOff(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := testOptions(t)
	o.Timeout = 4 * time.Second
	s := mustOpen(t, c.URL(), o)
	mustAdd(t, s, 1, 1)
	reconfigure(c, "synchronous_commit = local", "client_min_messages = error", "synchronous_standby_names = 'gone'")
	done := make(chan error, 1)
	go func() { _, err := add(bg, s, 1); done <- err }()
	const waiting = "pg_stat_activity WHERE wait_event = 'SyncRep'"
	waitFor(t, "a commit that waits for the standby", func() bool {
		return len(done) > 0 || c.Query("SELECT 1 FROM "+waiting) != ""
	})
	c.Exec("SELECT pg_cancel_backend(pid) FROM " + waiting)
	if err := <-done; !errors.Is(err, counter.ErrTimeout) {
		t.Fatalf("a batch that is on no standby: %v, want ErrTimeout", err)
	}
}

// TestRemoteApplyStays: what is stronger than on stays.
func TestRemoteApplyStays(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	c.Exec(`CREATE TABLE seen (setting text);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER see AFTER UPDATE ON counterd_counter DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION see()`)
	for i, set := range []string{"remote_apply", "remote_write", "local", "off", "on"} {
		reconfigure(c, "synchronous_commit = "+set)
		c.Exec("DELETE FROM seen")
		mustAdd(t, s, 1, int64(i+1))
		want := "on"
		if set == "remote_apply" {
			want = set
		}
		if got := c.Query("SELECT setting FROM seen"); got != want {
			t.Errorf("a batch was committed with %s where the server has %s; want %s", got, set, want)
		}
	}
}

// notes is a log to look at.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, string(bytes.TrimSpace(b)))
	return len(b), nil
}

func (n *notes) count(text string) (found int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lines {
		if strings.Contains(l, text) {
			found++
		}
	}
	return found
}

func noted(t testing.TB) (*notes, Options) {
	n := &notes{}
	o := testOptions(t)
	o.Log = slog.New(slog.NewTextHandler(n, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log: %s", strings.Join(n.lines, "\n"))
		}
	})
	return n, o
}

// TestRefusalIsLoggedOnce: an error that won't go away by itself is in the log, once,
// and so is its end.
func TestRefusalIsLoggedOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.HBA("host all counterd 127.0.0.1/32 trust"))
	c.Exec("CREATE ROLE counterd LOGIN; GRANT CREATE ON SCHEMA public TO counterd")
	log, o := noted(t)
	s := mustOpen(t, "postgres://counterd@"+c.Addr()+"/postgres?sslmode=disable", o)
	mustAdd(t, s, 1, 1)
	const begin, end = "the database refuses batches", "the database takes batches again"
	for i, test := range []struct{ name, harm, mend, says string }{
		{"table dropped", "ALTER TABLE counterd_counter RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO counterd_counter", "does not exist"},
		{"row deleted", "CREATE TABLE kept AS SELECT * FROM counterd_counter; DELETE FROM counterd_counter", "INSERT INTO counterd_counter SELECT * FROM kept", "has gone"},
		{"rights revoked", "REVOKE UPDATE ON counterd_counter FROM counterd", "GRANT UPDATE ON counterd_counter TO counterd", "permission denied"},
		{"a trigger that fails", "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END'; CREATE TRIGGER no BEFORE UPDATE ON counterd_counter FOR EACH ROW EXECUTE FUNCTION no()", "DROP TRIGGER no ON counterd_counter", "not today"},
	} {
		c.Exec(test.harm)
		waitFor(t, test.name+": line in the log", func() bool {
			if _, err := add(bg, s, 1); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%s: %v", test.name, err)
			}
			return log.count(begin) == i+1
		})
		for range 50 {
			if _, err := add(bg, s, 1); err == nil {
				t.Fatalf("%s: no error", test.name)
			}
		}
		c.Exec(test.mend)
		waitFor(t, "end of it in the log", func() bool {
			if _, err := add(bg, s, 0); err != nil {
				t.Fatalf("after %s: %v", test.name, err)
			}
			return log.count(end) == i+1
		})
		if n, m := log.count(begin), log.count(test.says); n != i+1 || m != 1 {
			t.Errorf("%s: %d lines say that batches are refused, %d why; want %d and 1", test.name, n, m, i+1)
		}
	}
}

// TestLogIsBounded: whatever comes and goes makes no more than about a line a
// second.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	log, o := noted(t)
	s := mustOpen(t, c.URL(), o)
	mustAdd(t, s, 1, 1)
	c.Exec("CREATE SEQUENCE turn; CREATE FUNCTION now_and_then() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF nextval(''turn'') % 2 = 0 THEN RAISE ''not this time''; END IF; RETURN NEW; END'; CREATE TRIGGER t BEFORE UPDATE ON counterd_counter FOR EACH ROW EXECUTE FUNCTION now_and_then()")
	var failed, fine int
	began := time.Now()
	for time.Since(began) < 2500*time.Millisecond {
		if _, err := add(bg, s, 1); err != nil {
			failed++
		} else {
			fine++
		}
	}
	if failed < 10 || fine < 10 {
		t.Fatalf("%d batches failed, %d didn't: the test is not about what it says", failed, fine)
	}
	if n, most := log.count("level="), int(time.Since(began)/time.Second)+1; n == 0 || n > most {
		t.Errorf("%d lines in %v, want 1 to %d", n, time.Since(began), most)
	}
	// A double is heard of, too, and no more often.
	c.Exec("DROP TRIGGER t ON counterd_counter")
	for range 50 {
		if _, err := add(bg, s, 0); err != nil {
			t.Fatal(err)
		}
		s.seq--
		if _, err := add(bg, s, 1); !errors.Is(err, errForeign) {
			t.Fatalf("a sequence number was used twice: %v", err)
		}
	}
	if n, most := log.count("level="), int(time.Since(began)/time.Second)+1; n > most {
		t.Errorf("%d lines in %v, want at most %d", n, time.Since(began), most)
	}
}

// TestDeletedRowDoesNotBeginAnew: a counter that has gone doesn't begin anew by itself at the next
// start; one that is made on purpose does.
func TestDeletedRowDoesNotBeginAnew(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, s, 5, 5)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.Exec("DELETE FROM counterd_counter")
	if s, err := Open(bg, c.URL(), testOptions(t)); err == nil {
		total, err := add(bg, s, 1)
		s.Close()
		t.Fatalf("the counter began anew: %d, %v", total, err)
	} else if !strings.Contains(err.Error(), "has gone") {
		t.Fatal(err)
	}
	if err := byHand(c.URL(), testOptions(t)).Set(bg, 5); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, mustOpen(t, c.URL(), testOptions(t)), 1, 6)
}

// TestNegativeRowIsNotServed: a value that is no count is not served, and not added to.
func TestNegativeRowIsNotServed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, s, 5, 5)
	c.Exec("UPDATE counterd_counter SET value = -7")
	check := func(what string, got int64, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "holds -7") {
			t.Errorf("%s: %d, %v", what, got, err)
		}
	}
	for _, n := range []int64{0, 3, 10} {
		total, err := add(bg, s, n)
		check(fmt.Sprintf("Add(%d)", n), total, err)
	}
	_, err := Open(bg, c.URL(), testOptions(t))
	check("Open", 0, err)
	shown, err := byHand(c.URL(), testOptions(t)).Show(bg)
	check("Show", shown, err)
	if got := value(t, c); got != "-7" {
		t.Errorf("the row holds %s, want it left as it is", got)
	}
	c.Exec("UPDATE counterd_counter SET value = 5")
	mustAdd(t, s, 1, 6)
}

// TestTwinsBatchIsNotTakenForOwn: a copied virtual machine's twin has counted a batch of the
// same number when the connection of this one's first attempt breaks. The twin's
// batch must not be taken for its own.
func TestTwinsBatchIsNotTakenForOwn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	a := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, a, 1, 1)
	cut := pgtest.CutBefore
	p := pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		if !isBatchOf(sql, 10) {
			return pgtest.Pass
		}
		defer func() { cut = pgtest.Pass }()
		return cut
	})
	b := mustOpen(t, pgtest.URL([]string{p.Addr()}, pgtest.Superuser), testOptions(t))
	b.id, b.seq = a.id, a.seq
	mustAdd(t, a, 10, 11)
	if total, err := add(bg, b, 10); !errors.Is(err, errForeign) {
		t.Fatalf("the double got %d, %v", total, err)
	}
	mustAdd(t, b, 10, 21)
	mustAdd(t, a, 10, 31)
}

// TestConnectErrorsAreOneLine: what is wrong is said on one line, and once.
func TestConnectErrorsAreOneLine(t *testing.T) {
	t.Parallel()
	for url, hosts := range map[string]int{
		"postgres://u@127.0.0.1:1/d":                         1, // sslmode=prefer: with TLS, and without
		"postgres://u@127.0.0.1:1,127.0.0.1:2/d":             2,
		"postgres://u@127.0.0.1:1,127.0.0.1:2,127.0.0.1:1/d": 2,
	} {
		s, err := newStore(url, testOptions(t))
		if err != nil {
			t.Fatal(err)
		}
		if err = s.connect(bg); err == nil {
			t.Fatal("no error")
		}
		if n := strings.Count(err.Error(), "connection refused"); n != hosts || strings.ContainsAny(err.Error(), "\n\t") {
			t.Errorf("%s: %q", url, err)
		}
	}
}
