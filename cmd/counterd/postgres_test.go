package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/pgtest"
)

// TestDatabaseGoesAndComes: without its database the server lives, says so
// everywhere, and counts again when the database is back.
func TestDatabaseGoesAndComes(t *testing.T) {
	db := pgtest.New(t)
	p := begin(t, "--store="+db.URL(), "--store-timeout=1s", "--counter=visitors")
	p.Await(`engine=gnet store=postgres://127.0.0.1:\d+/postgres count=0\n`)
	if got := p.get("/"); got != "1" {
		t.Fatalf("the first hit got %s", got)
	}
	ready := func(want int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			code, body := get(t, "http://"+p.admin+"/readyz")
			if code == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("readyz stays %d %s, want %d", code, body, want)
			}
		}
	}
	ready(http.StatusOK)
	db.StopFast()
	ready(http.StatusServiceUnavailable)
	if code, body := get(t, "http://"+p.listen); code != http.StatusServiceUnavailable {
		t.Errorf("a hit without a database: %d %s", code, body)
	}
	if r := run(t, nil, "health", "--admin="+p.admin); r.code != 1 || !strings.Contains(r.stderr, "store") {
		t.Errorf("health: %+v", r)
	}
	if _, body := get(t, "http://"+p.admin+"/metrics"); !strings.Contains(body, "\ncounterd_store_up 0\n") {
		t.Error("counterd_store_up is not 0")
	}
	if code, _ := get(t, "http://"+p.admin+"/healthz"); code != http.StatusOK {
		t.Error("it should live on")
	}
	db.Start()
	ready(http.StatusOK)
	// The hit without an answer may have been counted, once.
	if got := p.get("/"); got != "2" && got != "3" {
		t.Errorf("the next hit got %s", got)
	}
	p.Stop()
	if r := run(t, nil, "store", "show", "--counter=visitors", db.URL()); r.stdout != "2\n" && r.stdout != "3\n" {
		t.Errorf("%+v", r)
	}
}

// TestPasswordStaysSecret looks for it in everything that counterd says.
func TestPasswordStaysSecret(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("CREATE ROLE keeper LOGIN PASSWORD 's3cret'; GRANT ALL ON SCHEMA public TO keeper")
	url := strings.Replace(pgtest.URL([]string{db.Addr()}, "keeper"), "keeper@", "keeper:s3cret@", 1)
	p := begin(t, "--store="+url, "--log-level=debug")
	p.get("/")
	said := p.Log()
	for _, path := range []string{"/", "/metrics", "/readyz", "/debug/pprof/goroutine?debug=2"} {
		_, body := get(t, "http://"+p.admin+path)
		said += body
	}
	p.Stop()
	said += p.Log()
	run(t, nil, "--store="+strings.Replace(url, "keeper:", "nobody:", 1), "--listen=127.0.0.1:0", "--admin=").wantFailure(t, 1, "cannot start")
	if strings.Contains(said, "s3cret") {
		t.Error("the password was said")
	}
}
