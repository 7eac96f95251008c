package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/pgtest"
	"github.com/counterd/counterd/internal/proctest"
)

func TestMain(m *testing.M) {
	// A developer's PGHOST or PGPASSWORD must not take part.
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "PG") {
			os.Unsetenv(strings.SplitN(e, "=", 2)[0])
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		proctest.Clean()
		os.Exit(code)
	}))
}

var bg = context.Background()

// testOptions keep an outage in a test short and the log with the test.
func testOptions(t testing.TB) Options {
	return Options{Timeout: 10 * time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
}

func byHand(url string, o Options) ByHand { return ByHand{url, o} }

// mustOpen opens a store. A short o.Timeout is for what the store does then: on a busy
// machine to open it takes longer.
func mustOpen(t testing.TB, url string, o Options) *Store {
	t.Helper()
	timeout := o.Timeout
	o.Timeout = max(timeout, testOptions(t).Timeout)
	s, err := Open(bg, url, o)
	if err != nil {
		t.Fatal(err)
	}
	s.timeout = timeout
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// add adds to a single counter.
func add(ctx context.Context, s *Store, n int64) (int64, error) {
	return s.Add(ctx, []counter.Delta{{Hits: n}})
}

func mustAdd(t testing.TB, s *Store, n, want int64) {
	t.Helper()
	got, err := add(bg, s, n)
	if err != nil {
		t.Fatalf("Add(%d): %v", n, err)
	}
	if got != want {
		t.Fatalf("Add(%d) = %d, want %d", n, got, want)
	}
}

// value asks the database itself.
func value(t testing.TB, c *pgtest.Cluster) string {
	t.Helper()
	return c.Query("SELECT value FROM counterd_counter WHERE name = 'default'")
}

func TestCountersOfOtherNamesAreOthers(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, s, 0, 0)
	mustAdd(t, s, 1, 1)
	mustAdd(t, s, 41, 42)
	mustAdd(t, s, 0, 42)

	other := testOptions(t)
	other.Counter = "Other.name_with:all-9"
	o := mustOpen(t, c.URL(), other)
	mustAdd(t, o, 5, 5)
	mustAdd(t, s, 0, 42)

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, again, 1, 43)
	if got := c.Query("SELECT count(*) FROM counterd_replica"); got != "2" {
		t.Fatalf("%s bookkeeping rows, want 2: Close removes its own", got)
	}
}

// TestReadWrites: a read must write, or it could show what a failover takes
// back.
func TestReadWrites(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	before := c.Query("SELECT pg_current_wal_insert_lsn()")
	mustAdd(t, s, 0, 0)
	if c.Query("SELECT 1 WHERE pg_current_wal_insert_lsn() > '"+before+"'") == "" {
		t.Fatal("a read wrote nothing")
	}
	if got := c.Query("SELECT attempts FROM counterd_replica"); got != "1" {
		t.Fatalf("attempts = %s, want 1", got)
	}
}

func TestNothingIsCountedPastTheEnd(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	if err := byHand(c.URL(), testOptions(t)).Set(bg, math.MaxInt64-10); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, c.URL(), testOptions(t))
	if _, err := add(bg, s, 11); !errors.Is(err, counter.ErrFull) {
		t.Fatalf("past the end: %v, want ErrFull", err)
	}
	mustAdd(t, s, 0, math.MaxInt64-10)
	mustAdd(t, s, 10, math.MaxInt64)
	if _, err := add(bg, s, 1); !errors.Is(err, counter.ErrFull) {
		t.Fatalf("at the end: %v, want ErrFull", err)
	}
	mustAdd(t, s, 0, math.MaxInt64)
}

// TestReplicasGiveEachNumberOnce: two replicas at once give every number once.
func TestReplicasGiveEachNumberOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	const rounds, size = 300, 7
	totals := make([][]int64, 2)
	var wg sync.WaitGroup
	for i := range totals {
		s := mustOpen(t, c.URL(), testOptions(t))
		wg.Go(func() {
			for range rounds {
				total, err := add(bg, s, size)
				if err != nil {
					t.Error(err)
					return
				}
				totals[i] = append(totals[i], total)
			}
		})
	}
	wg.Wait()
	seen := map[int64]bool{}
	for _, ts := range totals {
		last := int64(0)
		for _, total := range ts {
			if total < last+size || total%size != 0 || seen[total] {
				t.Fatalf("total %d after %d, seen %t", total, last, seen[total])
			}
			last, seen[total] = total, true
		}
	}
	if got, want := value(t, c), fmt.Sprint(2*rounds*size); got != want {
		t.Fatalf("value %s, want %s", got, want)
	}
}

// TestTenReplicasBeginAtOnce: ten replicas start on an empty database.
func TestTenReplicasBeginAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 10 {
		wg.Go(func() {
			<-start
			s, err := Open(bg, c.URL(), testOptions(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := add(bg, s, 1); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if got := value(t, c); got != "10" {
		t.Fatalf("value %s, want 10", got)
	}
	if got := c.Query("SELECT count(*) FROM counterd_schema"); got != strconv.Itoa(len(migrations)) {
		t.Fatalf("%s versions", got)
	}
}

// TestTablesAreBroughtUpToDate: replicas of a newer program bring the tables up to date at
// once, an older one refuses them.
func TestTablesAreBroughtUpToDate(t *testing.T) {
	c := pgtest.New(t)
	old := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, old, 3, 3)

	keep := migrations
	t.Cleanup(func() { migrations = keep })
	next := strconv.Itoa(len(keep) + 1)
	migrations = append(slices.Clip(keep), "ALTER TABLE counterd_counter ADD COLUMN note text;INSERT INTO counterd_schema (version) VALUES ("+next+");")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			s, err := Open(bg, c.URL(), testOptions(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := add(bg, s, 1); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mustAdd(t, old, 0, 8) // it runs on during a rolling upgrade

	migrations = keep
	_, err := Open(bg, c.URL(), testOptions(t))
	if err == nil || !strings.Contains(err.Error(), "newer counterd") {
		t.Fatalf("older program on newer tables: %v", err)
	}
}

// TestRoleWithoutCreateIsToldTheSQL: the error of a role without CREATE holds the SQL that helps.
func TestRoleWithoutCreateIsToldTheSQL(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	c.Exec(`CREATE ROLE "small ""role""" LOGIN`) // PostgreSQL 15: no CREATE on public
	url := pgtest.URL([]string{c.Addr()}, `small "role"`)
	_, err := Open(bg, url, testOptions(t))
	if err == nil {
		t.Fatal("no error")
	}
	_, sql, ok := strings.Cut(err.Error(), "run:\n")
	if !ok {
		t.Fatalf("no SQL in: %v", err)
	}
	c.Exec(sql)
	c.Exec(sql) // harmless twice
	mustAdd(t, mustOpen(t, url, testOptions(t)), 1, 1)
}

// TestNamesForSQLAreChecked: what is put into SQL is checked before.
func TestNamesForSQLAreChecked(t *testing.T) {
	for _, name := range []string{"a'b", "a b", `a\b`, "ä", "a\x00", strings.Repeat("x", 64), "a;b", "a/b"} {
		if _, err := Open(bg, "postgres://localhost", Options{Counter: name}); err == nil || !strings.Contains(err.Error(), "bad counter name") {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// TestErrorsShowNoPassword: no error shows a password, whatever is wrong with the URL.
func TestErrorsShowNoPassword(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.HBA("host all counterd 127.0.0.1/32 scram-sha-256"))
	c.Exec("CREATE ROLE counterd LOGIN PASSWORD 'right'; GRANT CREATE ON SCHEMA public TO counterd")
	const secret = "s3cr3t"
	o := testOptions(t)
	o.Timeout = 200 * time.Millisecond
	for _, url := range []string{
		"postgres://counterd:" + secret + "@" + c.Addr() + "/postgres?sslmode=disable",
		"postgres://counterd@" + c.Addr() + "/postgres?sslmode=disable&password=" + secret,
		"postgres://counterd:" + secret + "@127.0.0.1:1/postgres",
		"postgres://counterd:" + secret + "@[::1/postgres",
		"postgres://counterd:" + secret + "%@localhost/postgres",
		"postgres://counterd:" + secret + "@local host:x/postgres",
		"postgres://counterd:/" + secret + "@localhost:99999999/postgres",
		"postgres://counterd:" + secret + "@localhost/postgres?sslmode=" + secret,
		"postgres://counterd:" + secret + "@localhost/postgres?connect_timeout=" + secret,
		"postgres://counterd:" + secret + "@localhost/postgres?sslmode=verify-full&sslrootcert=/nowhere",
		"postgres://counterd:" + secret + "@localhost/postgres?target_session_attrs=" + secret,
		"postgresql://u:p?" + secret + "@h/db",
		"host=localhost password='" + secret,
	} {
		_, err := Open(bg, url, o)
		if err == nil {
			t.Errorf("%s: no error", url)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the password: %v", err)
		}
		if strings.Contains(Describe(url), secret) {
			t.Errorf("Describe shows the password: %s", Describe(url))
		}
	}
	mustAdd(t, mustOpen(t, "postgres://counterd:right@"+c.Addr()+"/postgres?sslmode=disable", testOptions(t)), 1, 1)
	if got, want := Describe("postgres://u:p@a,b:1/d?sslmode=require&password=x"), "postgres://a:5432,b:1/d"; got != want {
		t.Errorf("Describe = %s, want %s", got, want)
	}
}

// TestOpenTellsAtOnceWhatWontGetBetter: what won't get better is told at once; a server that isn't
// there, after the timeout.
func TestOpenTellsAtOnceWhatWontGetBetter(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := testOptions(t)
	start := time.Now()
	if _, err := Open(bg, strings.Replace(c.URL(), "/postgres?", "/nowhere?", 1), o); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Fatalf("database that doesn't exist: %v", err)
	}
	if took := time.Since(start); took > o.Timeout/2 {
		t.Fatalf("took %v", took)
	}
	c.Stop()
	o.Timeout = 300 * time.Millisecond
	start = time.Now()
	if _, err := Open(bg, c.URL(), o); !errors.Is(err, counter.ErrTimeout) {
		t.Fatalf("server that isn't there: %v", err)
	}
	if took := time.Since(start); took < o.Timeout || took > o.Timeout+2*time.Second {
		t.Fatalf("took %v, want about %v", took, o.Timeout)
	}
}

// TestReplicaGoesOnWithoutItsRow: a replica whose bookkeeping row was cleaned up goes on, and
// stays exact.
func TestReplicaGoesOnWithoutItsRow(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	paused := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, paused, 5, 5)
	c.Exec("UPDATE counterd_replica SET seen = now() - interval '8 days'")

	other := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, other, 1, 6)
	if got := c.Query("SELECT count(*) FROM counterd_replica"); got != "1" {
		t.Fatalf("%s bookkeeping rows, want 1: the old one must be cleaned up", got)
	}
	mustAdd(t, paused, 5, 11)
	mustAdd(t, other, 0, 11)
	if got := paused.Stats().IDs; got != 2 {
		t.Fatalf("%d ids, want 2", got)
	}
}

// TestUnknownBatchIsNotSentAgainWithoutItsRow: when the row is gone, a batch that may have been
// counted isn't sent again.
func TestUnknownBatchIsNotSentAgainWithoutItsRow(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	var s *Store
	cut := true
	p := pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		if !isBatchOf(sql, 7) {
			return pgtest.Pass
		}
		if cut {
			cut = false
			return pgtest.CutUnanswered
		}
		c.Exec("DELETE FROM counterd_replica") // before the retry
		return pgtest.Pass
	})
	s = mustOpen(t, pgtest.URL([]string{p.Addr()}, pgtest.Superuser), testOptions(t))
	mustAdd(t, s, 1, 1)
	if _, err := add(bg, s, 7); !errors.Is(err, errUnknown) {
		t.Fatalf("%v, want errUnknown", err)
	}
	mustAdd(t, s, 1, 9)
	if st := s.Stats(); st.Ambiguous != 1 || st.Abandoned != 1 {
		t.Fatalf("%+v", st)
	}
}

// TestTwinsKnowTheirOwnBatches: two processes with one memory (a copied virtual machine) must
// not take each other's batches for their own.
func TestTwinsKnowTheirOwnBatches(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	a := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, a, 1, 1)
	b := mustOpen(t, c.URL(), testOptions(t))
	b.id, b.seq = a.id, a.seq
	mustAdd(t, a, 10, 11)
	if total, err := add(bg, b, 10); !errors.Is(err, errForeign) {
		t.Fatalf("the double got %d, %v", total, err)
	}
	mustAdd(t, b, 10, 21)
	mustAdd(t, a, 10, 31)
}

func TestSetIsShown(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := testOptions(t)
	if _, err := byHand(c.URL(), o).Show(bg); err == nil {
		t.Fatal("Show of an empty database: no error")
	}
	if err := byHand(c.URL(), o).Set(bg, 1000); err != nil {
		t.Fatal(err)
	}
	if v, err := byHand(c.URL(), o).Show(bg); v != 1000 || err != nil {
		t.Fatalf("Show = %d, %v", v, err)
	}
	s := mustOpen(t, c.URL(), o)
	mustAdd(t, s, 1, 1001)
	if err := byHand(c.URL(), o).Set(bg, 5); err == nil || !strings.Contains(err.Error(), "stop the replicas") {
		t.Fatalf("Set under a running replica: %v", err)
	}
	// One that is idle is overlooked, but what it has sent is not to count any more.
	c.Exec("UPDATE counterd_replica SET seen = now() - interval '2 minutes'")
	if err := byHand(c.URL(), o).Set(bg, 2000); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, s, 1, 2001)
	if got := s.Stats().IDs; got != 2 {
		t.Errorf("%d ids after Set, want 2", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := byHand(c.URL(), o).Set(bg, 5); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, mustOpen(t, c.URL(), o), 1, 6)
	if err := byHand(c.URL(), o).Set(bg, -1); err == nil {
		t.Fatal("negative value: no error")
	}
}

// TestWhichErrorsLeaveABatchUnknown: after which errors, reported over a connection that lives on
// as behind a pooler, the batch may be counted, and the session is given up.
func TestWhichErrorsLeaveABatchUnknown(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	for _, test := range []struct {
		code               string
		ambiguous, useless bool
	}{
		{"40001", false, false}, // serialization_failure
		{"53100", false, false}, // disk_full
		{"57014", false, false}, // query_canceled
		{"25P04", false, false}, // transaction_timeout
		{"25006", false, true},  // read_only_sql_transaction
		{"55000", false, true},  // object_not_in_prerequisite_state
		{"40003", true, true},   // statement_completion_unknown
		{"08006", true, true},   // connection_failure
		{"57P01", true, true},   // admin_shutdown
		{"58030", true, true},   // io_error
		{"XX000", true, true},   // internal_error
	} {
		if !transient(test.code) {
			t.Errorf("%s is not sent again", test.code)
		}
		if s.session == nil {
			if err := s.connect(bg); err != nil {
				t.Fatal(err)
			}
		}
		b := &batch{}
		err := &pgconn.PgError{Code: test.code}
		if got := s.failed(bg, b, err); got != err {
			t.Errorf("%s became %v", test.code, got)
		}
		if b.ambiguous != test.ambiguous || (s.session == nil) != test.useless {
			t.Errorf("%s: ambiguous %t, session given up %t", test.code, b.ambiguous, s.session == nil)
		}
	}
}

// TestMissingCounterDoesNotBeginAnew: an administrator's mistake is reported, never papered over
// with a counter that begins at 0 again.
func TestMissingCounterDoesNotBeginAnew(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), testOptions(t))
	mustAdd(t, s, 1, 1)
	c.Exec("DELETE FROM counterd_counter")
	if _, err := add(bg, s, 1); err == nil || !strings.Contains(err.Error(), "has gone") {
		t.Fatalf("counter deleted: %v", err)
	}
	c.Exec("INSERT INTO counterd_counter VALUES ('default', 1)")
	mustAdd(t, s, 1, 2)
}

// TestRoleCannotSwitchOffSynchronousCommit: a role's setting must not break the promise.
func TestRoleCannotSwitchOffSynchronousCommit(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Config("synchronous_commit = off"))
	s := mustOpen(t, c.URL(), testOptions(t))
	for i := range int64(50) {
		mustAdd(t, s, 1, i+1)
		c.Exec("SELECT 1")
	}
	c.Kill()
	c.Start()
	if got := value(t, c); got != "50" {
		t.Fatalf("after the crash: %s, want 50", got)
	}
}

// TestRoleCannotSwitchOffWarnings: that a commit's wait for the synchronous standby was cancelled
// is only in a warning, which a role may have switched off.
func TestRoleCannotSwitchOffWarnings(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Config("synchronous_standby_names = 'gone'"))
	o := testOptions(t)
	o.Timeout = 4 * time.Second
	// With local Open doesn't wait; a batch does all the same.
	s := mustOpen(t, c.URL("synchronous_commit=local", "client_min_messages=error"), o)
	done := make(chan error, 1)
	go func() { _, err := add(bg, s, 1); done <- err }()
	const waiting = "pg_stat_activity WHERE wait_event = 'SyncRep'"
	c.Await("SELECT 1 FROM " + waiting)
	c.Exec("SELECT pg_cancel_backend(pid) FROM " + waiting)
	if err := <-done; !errors.Is(err, counter.ErrTimeout) {
		t.Fatalf("a batch that is on no standby: %v, want ErrTimeout", err)
	}
}

// TestShowAndSetWaitForTheStandby: store show and store set wait for the standby as a
// batch does.
func TestShowAndSetWaitForTheStandby(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Config("synchronous_standby_names = 'gone'"))
	o := testOptions(t)
	url := c.URL("synchronous_commit=local")
	mustOpen(t, url, o)
	o.Timeout = time.Second
	if v, err := byHand(url, o).Show(bg); !errors.Is(err, counter.ErrTimeout) {
		t.Errorf("Show = %d, %v; want ErrTimeout", v, err)
	}
	o.Counter = "other"
	if err := byHand(url, o).Set(bg, 7); !errors.Is(err, counter.ErrTimeout) {
		t.Errorf("Set: %v, want ErrTimeout", err)
	}
}

// TestLongestAttemptFitsOneSegment: what the server gets for an attempt fits one TCP
// segment, even at its longest.
func TestLongestAttemptFitsOneSegment(t *testing.T) {
	b := &batch{seq: math.MaxInt64, token: math.MinInt64, deltas: []counter.Delta{{Hits: math.MaxInt64}}}
	for _, prepared := range []bool{false, true} {
		s := &Store{session: &session{prepared: prepared}, id: newID(), counter: strings.Repeat("x", 63)}
		if n := len(s.appendBatch(nil, b, time.Hour)); n > 1200 {
			t.Errorf("%d bytes, prepared %t", n, prepared)
		}
	}
}
