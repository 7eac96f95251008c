package pgtest_test

import (
	"testing"

	"github.com/counterd/counterd/internal/pgtest"
)

// TestKillIsACrash shows that the cluster is durable and that Kill is a crash: what
// was committed is there after recovery.
func TestKillIsACrash(t *testing.T) {
	c := pgtest.New(t)
	if got := c.Query("SHOW fsync"); got != "on" {
		t.Fatalf("fsync = %s, want on: durability is what the tests are about", got)
	}
	c.Exec("CREATE TABLE t (v int); INSERT INTO t VALUES (42)")
	c.Kill()
	if _, err := c.TryQuery("SELECT 1"); err == nil {
		t.Fatal("the server answers after Kill")
	}
	c.Start()
	if got := c.Query("SELECT v FROM t"); got != "42" {
		t.Fatalf("after the crash: %q, want 42", got)
	}
}

// TestStandbyIsPromoted walks the way of a failover once.
func TestStandbyIsPromoted(t *testing.T) {
	p := pgtest.New(t)
	s := p.Standby("second")
	p.Synchronous("second")
	p.Exec("CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
	s.Await("SELECT v FROM t")
	p.Stop()
	s.Promote()
	s.Exec("INSERT INTO t VALUES (2)")
	if got := s.Query("SELECT sum(v) FROM t"); got != "3" {
		t.Fatalf("after the failover: sum %q, want 3", got)
	}
}

// TestCommitWaitsForACutOffStandby shows that a commit waits for a standby that was cut off.
func TestCommitWaitsForACutOffStandby(t *testing.T) {
	p := pgtest.New(t)
	s := p.Standby("second")
	p.Synchronous("second")
	p.Exec("CREATE TABLE t (v int)")
	s.Await("SELECT 1 FROM pg_class WHERE relname = 't'")
	s.CutOff()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Ends with an error when the backend is terminated below.
		_, _ = p.TryQuery("INSERT INTO t VALUES (1)")
	}()
	p.Await("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	p.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	<-done
	if got := p.Query("SELECT count(*) FROM t"); got != "1" {
		t.Fatalf("the interrupted commit is not visible on the primary: %s rows", got)
	}
	if got := s.Query("SELECT count(*) FROM t"); got != "0" {
		t.Fatalf("the standby that was cut off has %s rows", got)
	}
}
