package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/engine"
	"github.com/counterd/counterd/internal/proctest"
)

// TestCountSurvives: stopped cleanly or killed, the count is there again.
func TestCountSurvives(t *testing.T) {
	t.Parallel()
	store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
	want := 0
	for i := range 6 {
		p := begin(t, store, "--engine="+[]string{engine.Gnet, engine.Goroutine, engine.Std}[i%3])
		if got := p.get("/count"); got != fmt.Sprint(want) {
			t.Fatalf("count %s after restart %d, want %d", got, i, want)
		}
		for range 5 {
			want++
			if got := p.get("/"); got != fmt.Sprint(want) {
				t.Fatalf("hit got %s, want %d", got, want)
			}
		}
		if i%2 == 0 {
			p.Stop()
		} else {
			p.Kill()
		}
	}
}

// TestStopDoesNotWaitForTheIdle: idle connections, live pages and a half-open
// admin connection don't delay the end.
func TestStopDoesNotWaitForTheIdle(t *testing.T) {
	t.Parallel()
	for _, e := range []string{engine.Gnet, engine.Goroutine, engine.Std} {
		p := begin(t, "--engine="+e)
		idle := dial(t, p.listen)
		fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
			t.Fatal(err)
		}
		live := dial(t, p.admin)
		fmt.Fprint(live, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := live.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		dial(t, p.admin)
		before := time.Now()
		p.Stop()
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("%s: the stop took %v", e, took)
		}
	}
}

// halfRequest begins a request whose body isn't whole, and waits until the server
// has read it. finish sends the rest and returns the answer.
func halfRequest(t *testing.T, p *process) (finish func() *http.Response) {
	t.Helper()
	c := dial(t, p.listen)
	r := bufio.NewReader(c)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
	answer := func() *http.Response {
		t.Helper()
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := answer(); res.StatusCode != http.StatusContinue {
		t.Fatal(res.Status)
	}
	fmt.Fprint(c, "12345")
	return func() *http.Response {
		t.Helper()
		fmt.Fprint(c, "67890")
		return answer()
	}
}

func TestDrainTimeoutCutsWhatIsLeft(t *testing.T) {
	t.Parallel()
	p := begin(t, "--drain-timeout=300ms", "--read-timeout=1m")
	halfRequest(t, p)
	p.Signal(syscall.SIGTERM)
	p.Wait(1)
	p.Await(`level=ERROR msg="did not stop cleanly" err=`)
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := begin(t, "--drain-timeout=1m", "--read-timeout=1m")
	halfRequest(t, p)
	p.Signal(syscall.SIGINT)
	p.Await(`msg=stopping`)
	if code, body := get(t, "http://"+p.admin+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz while it drains: %d %s", code, body)
	}
	if r := run(t, nil, "health", "--admin="+p.admin); r.code != 1 || !strings.Contains(r.stderr, "draining") {
		t.Errorf("health while it drains: %+v", r)
	}
	time.Sleep(2 * twice) // closer together they are one
	p.Signal(syscall.SIGTERM)
	p.Wait(1)
	p.Await(`level=ERROR msg="second signal`)
}

// TestStoreIsLost: a disk whose sync fails ends the server with code 1 and a
// line that says so, and no hit is answered that isn't on it.
func TestStoreIsLost(t *testing.T) {
	t.Parallel()
	linuxOnly(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace to make fdatasync fail")
	}
	store := filepath.Join(t.TempDir(), "counterd.db")
	if r := run(t, nil, "store", "set", "file:"+store, "100"); r.code != 0 {
		t.Fatal(r)
	}
	p := begin(t, "--store=file:"+store)
	answered := p.get("/")
	finish := halfRequest(t, p)
	// From now on every sync fails. strace counts calls per thread, so it can't
	// be told at which one to begin. AIO isn't to be had any more either, so that
	// on one core, too, it is fdatasync that is called.
	strace := exec.Command("strace", "-f", "-o", os.DevNull, "-e", "trace=io_submit,fdatasync",
		"-e", "inject=io_submit:error=EAGAIN", "-e", "inject=fdatasync:error=EIO",
		"-p", fmt.Sprint(p.Pid()))
	says, err := strace.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = strace.Wait() }() // it ends with counterd
	if line, err := bufio.NewReader(says).ReadString('\n'); err != nil || !strings.Contains(line, "attached") {
		t.Fatalf("strace: %q %v", line, err)
	}
	code, body := get(t, "http://"+p.listen)
	if code != http.StatusServiceUnavailable {
		t.Errorf("a hit that can't be synced: %d %s", code, body)
	}
	// The process still waits for the rest of a request.
	if code, body := get(t, "http://"+p.admin+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz after the store was lost: %d %s", code, body)
	}
	if res := finish(); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a hit after the store was lost: %s", res.Status)
	}
	p.Wait(1)
	if n := strings.Count(p.Log(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log, want one line:\n%s", n, p.Log())
	}
	p.Await(`level=ERROR msg="cannot go on" err="the store is lost`)
	t.Log(p.Log())
	if r := run(t, nil, "store", "show", "file:"+store); strings.TrimSpace(r.stdout) < answered {
		t.Errorf("%s was answered, the store has %s", answered, r.stdout)
	}
}

// TestLogReaderLeaves: nobody reads the log any more, and counting goes on.
func TestLogReaderLeaves(t *testing.T) {
	t.Parallel()
	ln := listenTCP(t)
	cmd := activated(t, ln, nil, "--store=mem:", "--log-level=debug")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	}()
	w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatalf("%q %v", line, err)
	}
	r.Close()
	for i := range 5 {
		if code, body := get(t, "http://"+ln.Addr().String()); code != 200 || body != fmt.Sprintf("%d\n", i+1) {
			t.Fatalf("%d %s", code, body)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the stop says something to nobody: %v", err)
	}
}

func TestSmallLimitLeavesHalfForConnections(t *testing.T) {
	t.Parallel()
	linuxOnly(t)
	p := listening(t, proctest.Command(binary, []string{"--store=mem:"}, "sh", "-c", `ulimit -n 150; exec "$0" "$@"`))
	_, body := get(t, "http://"+p.admin+"/metrics")
	if !strings.Contains(body, "\ncounterd_connections_max 75\n") {
		t.Errorf("not 75 of 150 descriptors: %s", regexp.MustCompile(`counterd_connections_max .*`).FindString(body))
	}
}

func TestHealthCommand(t *testing.T) {
	t.Parallel()
	p := begin(t)
	if r := run(t, nil, "health", "--admin="+p.admin); r != (result{}) {
		t.Errorf("ready: %+v", r)
	}
	_, port, _ := net.SplitHostPort(p.admin)
	for _, env := range []string{p.admin, "localhost:" + port, "0.0.0.0:" + port, "[::]:" + port, ":" + port} {
		if r := run(t, []string{"COUNTERD_ADMIN=" + env, "HTTP_PROXY=http://127.0.0.1:1"}, "health"); r != (result{}) {
			t.Errorf("COUNTERD_ADMIN=%s: %+v", env, r)
		}
	}
	p.Stop()
	run(t, nil, "health", "--admin="+p.admin).wantFailure(t, 1, "refused")
	run(t, nil, "health", "--admin=:"+port).wantFailure(t, 1, "refused")
	v6 := begin(t, "--admin=[::1]:0")
	_, port, _ = net.SplitHostPort(v6.admin)
	if r := run(t, nil, "health", "--admin=:"+port); r != (result{}) {
		t.Errorf("on ::1 alone: %+v", r)
	}
	run(t, nil, "health", "--admin=").wantFailure(t, 1, "off")
}

func TestStoreCommand(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "counterd.db")
	store := "file:" + file
	show := func(want string) {
		t.Helper()
		if r := run(t, nil, "store", "show", store); r != (result{stdout: want + "\n"}) {
			t.Errorf("show: %+v, want %s", r, want)
		}
	}
	set := func(v string) {
		t.Helper()
		if r := run(t, nil, "store", "set", store, v); r != (result{}) {
			t.Errorf("set: %+v", r)
		}
	}
	run(t, nil, "store", "show", store).wantFailure(t, 1, file)
	set("41")
	show("41")
	p := begin(t, "--store="+store)
	if got := p.get("/"); got != "42" {
		t.Errorf("the first hit got %s", got)
	}
	run(t, nil, "store", "show", store).wantFailure(t, 1, file)
	run(t, nil, "store", "set", store, "1").wantFailure(t, 1, file)
	p.Stop()
	show("42")
	set("9223372036854775807")
	show("9223372036854775807")

	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "store", "show", store).wantFailure(t, 1, file)
	wantStartFailure(t, file, "--store="+store)
	set("42")
	show("42")
}

// wantHealth checks /readyz, counterd health and a line of the metrics.
func (p *process) wantHealth(metric string, code int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("/readyz is %d", code), func() bool {
		got, _ := get(p.t, "http://"+p.admin+"/readyz")
		return got == code
	})
	if r := run(p.t, nil, "health", "--admin="+p.admin); (r.code == 0) != (code == http.StatusOK) {
		p.t.Errorf("health: %+v", r)
	}
	if _, body := get(p.t, "http://"+p.admin+"/metrics"); !strings.Contains(body, "\n"+metric+"\n") {
		p.t.Errorf("no metric %s", metric)
	}
}

// TestTooManyCountersAreLogged: hits that get 507 leave a line a second in the log, and
// their paths don't get into it.
func TestTooManyCountersAreLogged(t *testing.T) {
	t.Parallel()
	p := begin(t, "--per=path", "--store=mem:", "--max-counters=1")
	p.get("/first")
	const refused = 20
	for i := range refused {
		if code, body := get(t, fmt.Sprintf("http://%s/stranger-%d", p.listen, i)); code != http.StatusInsufficientStorage {
			t.Errorf("%d %s", code, body)
		}
	}
	p.Await(`level=WARN msg="no room for more counters, new paths get 507; raise --max-counters [^"]*" answers=\d+ counters=1 max=1\n`)
	p.get("/first")
	p.Stop()
	if lines := strings.Count(p.Log(), "new paths get 507"); lines > refused/2 || strings.Contains(p.Log(), "stranger") {
		t.Errorf("%d lines:\n%s", lines, p.Log())
	}
}

// TestFullCountGets503: at the end of the numbers hits get 503, and health says so.
func TestFullCountGets503(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--sync=10ms"}} {
		store := "file:" + filepath.Join(t.TempDir(), "counterd.db")
		run(t, nil, "store", "set", store, "9223372036854775806")
		p := begin(t, append(args, "--store="+store)...)
		p.wantHealth("counterd_store_up 1", http.StatusOK)
		if got := p.get("/"); got != "9223372036854775807" {
			t.Errorf("the last hit got %s", got)
		}
		p.wantHealth("counterd_store_up 0", http.StatusServiceUnavailable)
		if code, body := get(t, "http://"+p.listen); code != http.StatusServiceUnavailable {
			t.Errorf("a hit beyond it: %d %s", code, body)
		}
		p.Await(`level=WARN msg="hits get 503" answers=\d+ err="the count is full"`)
		p.Stop()
		p.Await(`msg=stopped count=9223372036854775807\n`)
	}
}

// TestLogHasTheCountAtBothEnds: the log says what the store held and what it holds, also if
// nobody came in between.
func TestLogHasTheCountAtBothEnds(t *testing.T) {
	t.Parallel()
	store := "file:" + filepath.Join(t.TempDir(), "counterd.db")
	for i, args := range [][]string{{"--sync=always"}, {"--sync=1s"}} {
		n := 3 + i
		run(t, nil, "store", "set", store, fmt.Sprint(n))
		p := begin(t, append(args, "--store="+store)...)
		p.Await(fmt.Sprintf(`msg=listening .* count=%d\n`, n))
		p.Stop()
		p.Await(fmt.Sprintf(`msg=stopped count=%d\n`, n))
	}
}

// TestTwoHangUpsAreOneStop: a terminal that closes signals twice and means one clean stop.
func TestTwoHangUpsAreOneStop(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("SIGHUP is ignored here, as under nohup, and so is it in what is started")
	}
	t.Parallel()
	for _, pause := range []time.Duration{0, 5 * twice} {
		store := "file:" + filepath.Join(t.TempDir(), "counterd.db")
		p := begin(t, "--store="+store, "--sync=1m")
		finish := halfRequest(t, p)
		for range 49 {
			p.get("/")
		}
		p.Signal(syscall.SIGHUP)
		p.Await(`msg=stopping`)
		time.Sleep(pause)
		p.Signal(syscall.SIGHUP)
		if res := finish(); res.StatusCode != http.StatusOK {
			t.Error(res.Status)
		}
		p.Wait(0)
		p.Await(`msg=stopped count=50\n`)
		if r := run(t, nil, "store", "show", store); r.stdout != "50\n" {
			t.Errorf("%+v", r)
		}
	}

	cmd := command(nil, "--store=mem:")
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`}, cmd.Args...)
	p := listening(t, cmd)
	p.Signal(syscall.SIGHUP)
	time.Sleep(100 * time.Millisecond)
	if got := p.get("/"); got != "1" {
		t.Error(got)
	}
	p.Stop()
}

// TestDrainDelayKeepsServing: for that long all is as before, but for /readyz.
func TestDrainDelayKeepsServing(t *testing.T) {
	t.Parallel()
	const delay = time.Second
	p := begin(t, "--store=mem:", "--drain-delay="+delay.String())
	kept := dial(t, p.listen)
	r := bufio.NewReader(kept)
	begin := time.Now()
	p.Signal(syscall.SIGTERM)
	p.Await(`msg=stopping`)
	if code, body := get(t, "http://"+p.admin+"/readyz"); code != http.StatusServiceUnavailable || body != "draining\n" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	hits := 0
	for time.Since(begin) < delay-300*time.Millisecond {
		hits++
		if got := p.get("/"); got != fmt.Sprint(hits) {
			t.Fatalf("hit %d got %s", hits, got)
		}
		hits++
		fmt.Fprint(kept, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusOK || res.Close {
			t.Fatal(res, err)
		}
		if _, err := r.Discard(int(res.ContentLength)); err != nil {
			t.Fatal(err)
		}
	}
	p.Wait(0)
	if took := time.Since(begin); took < delay {
		t.Errorf("it ended after %v", took)
	}
	p.Await(fmt.Sprintf(`msg=stopped count=%d\n`, hits))

	p = listening(t, command(nil, "--store=mem:", "--drain-delay=1m"))
	p.Signal(syscall.SIGTERM)
	time.Sleep(2 * twice)
	p.Signal(syscall.SIGTERM)
	p.Wait(1)
}

// TestStoreIsLostInTheDelay: that is an end like any other.
func TestStoreIsLostInTheDelay(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "counterd.db")
	p := begin(t, "--store=file:"+file, "--drain-delay=1m")
	p.Signal(syscall.SIGTERM)
	p.Await(`msg=stopping`)
	p.loseStore(file)
	p.Await(`level=ERROR msg="cannot go on" err="the store is lost`)
}

// TestCountingDoesNotWaitForTheAdminPort: with --takeover-timeout it may belong to a process that is
// ending; counting doesn't wait for it.
func TestCountingDoesNotWaitForTheAdminPort(t *testing.T) {
	t.Parallel()
	taken := listenTCP(t)
	addr := proctest.FreeAddr(t)
	p := launch(t, command(nil, "--listen="+addr, "--admin="+taken.Addr().String(), "--takeover-timeout=1s"))
	eventually(t, "it counts", func() bool {
		resp, err := http.Get("http://" + addr)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	taken.Close()
	p.awaitListening()
	if code, _ := get(t, "http://"+p.admin+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}
	p.Stop()
}

// TestSystemdIsNotified plays systemd.
func TestSystemdIsNotified(t *testing.T) {
	t.Parallel()
	addr := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := manager.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		buf := make([]byte, 1000)
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	p := launch(t, command([]string{"NOTIFY_SOCKET=" + addr, "WATCHDOG_USEC=200000"}))
	if got := next(); got != "READY=1" {
		t.Fatalf("first %q", got)
	}
	p.awaitListening() // was logged before
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Fatalf("then %q", got)
		}
	}
	p.Signal(syscall.SIGTERM)
	got := next()
	for got == "WATCHDOG=1" {
		got = next()
	}
	if got != "STOPPING=1" {
		t.Errorf("at the end %q", got)
	}
	p.Wait(0)
}

// TestWatchdogIsFedWithoutStore: systemd hears in time, however long the store takes.
func TestWatchdogIsFedWithoutStore(t *testing.T) {
	const interval = 400 * time.Millisecond
	addr := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", addr)
	t.Setenv("WATCHDOG_USEC", fmt.Sprint(interval.Microseconds()))

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		watchdog(ctx, slog.Default(), func(ctx context.Context) { <-ctx.Done() })
	})
	defer wg.Wait()
	defer cancel()
	if err := manager.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		buf := make([]byte, 100)
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(buf[:n]); got != "WATCHDOG=1" {
			t.Fatalf("%q", got)
		}
	}
}

// TestInheritedSocketIsUsed: a socket from systemd is used instead of --listen.
func TestInheritedSocketIsUsed(t *testing.T) {
	t.Parallel()
	ln := listenTCP(t)
	p := listening(t, activated(t, ln, nil, "--listen=203.0.113.1:1"))
	if p.listen != ln.Addr().String() {
		t.Errorf("listen=%s, want %s", p.listen, ln.Addr())
	}
	if got := p.get("/"); got != "1" {
		t.Error(got)
	}
	p.Stop()
}

// TestSignalEndsTheWaitForTheStore ends a process that still waits for the store.
func TestSignalEndsTheWaitForTheStore(t *testing.T) {
	t.Parallel()
	store := "--store=file:" + filepath.Join(t.TempDir(), "counterd.db")
	begin(t, store)
	p := launch(t, command(nil, store, "--takeover-timeout=1m"))
	p.Await(`msg="waiting for another process to let go" of="the store"`)
	p.Stop()
}
