package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/internal/pgtest"
	"github.com/counterd/counterd/internal/proctest"
)

// unread starts counterd with a standard error that nobody reads and that takes
// nothing more, and waits until it counts.
func unread(t *testing.T, args ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	if err := raw.Control(func(fd uintptr) {
		for err == nil {
			_, err = unix.Write(int(fd), block)
		}
		_ = unix.SetNonblock(int(fd), false) // as it is where a shell or containerd made it
	}); err != nil {
		t.Fatal(err)
	}
	addr := proctest.FreeAddr(t)
	cmd := command(nil, append([]string{"--listen=" + addr, "--admin=", "--log-level=debug"}, args...)...)
	cmd.Stderr = w
	p := launch(t, cmd)
	p.listen = addr
	eventually(t, "it counts", func() bool {
		resp, err := http.Get("http://" + addr + "/count")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestUnreadLogDelaysNoStop: told to stop under load it ends in time, cleanly, and has
// counted what it answered.
func TestUnreadLogDelaysNoStop(t *testing.T) {
	everyEngine(t, func(t *testing.T, e string) {
		t.Parallel()
		const drain = 5 * time.Second
		store := "file:" + filepath.Join(t.TempDir(), "counterd.db")
		p := unread(t, "--engine="+e, "--store="+store, "--drain-timeout="+drain.String())
		l := hit(t, p.listen)
		l.some(200)
		l.stop.Store(true) // each connection ends with the request that it is at
		begin := time.Now()
		p.Stop()
		if took := time.Since(begin); took > drain {
			t.Errorf("the stop took %v", took)
		}
		l.wg.Wait()
		if r := run(t, nil, "store", "show", store); strings.TrimSpace(r.stdout) != fmt.Sprint(l.answered.Load()) {
			t.Errorf("%s counted, %d answered", r.stdout, l.answered.Load())
		}
	})
}

// TestUnreadLogDelaysNoEnd: nor does it keep the process alive after a second signal,
// or with a store that is lost.
func TestUnreadLogDelaysNoEnd(t *testing.T) {
	t.Parallel()
	p := unread(t, "--store=mem:", "--drain-timeout=1m", "--read-timeout=1m")
	halfRequest(t, p)
	p.Signal(syscall.SIGTERM)
	time.Sleep(2 * twice)
	p.Signal(syscall.SIGTERM)
	p.Wait(1)

	file := filepath.Join(t.TempDir(), "counterd.db")
	p = unread(t, "--store=file:"+file)
	p.loseStore(file)
}

// TestUnreadLogDelaysNoCommit: the database goes, which is worth many lines, and comes
// back, and counting goes on.
func TestUnreadLogDelaysNoCommit(t *testing.T) {
	db := pgtest.New(t)
	p := unread(t, "--store="+db.URL(), "--store-timeout=300ms")
	p.get("/")
	db.StopFast()
	for range 5 {
		if code, body := get(t, "http://"+p.listen); code != http.StatusServiceUnavailable {
			t.Errorf("without a database: %d %s", code, body)
		}
	}
	db.Start()
	eventually(t, "it counts again", func() bool {
		code, _ := get(t, "http://"+p.listen)
		return code == http.StatusOK
	})
	p.Stop()
}
