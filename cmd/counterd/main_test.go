package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/proctest"
	"github.com/counterd/counterd/internal/race"
)

// binary is counterd, built once.
var binary string

func TestMain(m *testing.M) {
	if crash := crashes[os.Getenv("COUNTERD_TEST_CRASH")]; crash != nil {
		crashBySignal()
		crash()
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	defer proctest.Clean()
	var flags []string
	if race.Enabled {
		flags = append(flags, "-race")
	}
	var err error
	if binary, err = proctest.Build(flags...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// result is how a run ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs counterd to its end.
func run(t *testing.T, env []string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = proctest.Env(env...)
	cmd.Dir = t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wantFailure checks for the exit code and one line on stderr that contains
// text, and nothing else.
func (r result) wantFailure(t *testing.T, code int, text string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if strings.Count(r.stderr, "\n") != 1 || !strings.HasSuffix(r.stderr, "\n") {
		t.Errorf("want one line, got %q", r.stderr)
	}
	if !strings.Contains(r.stderr, text) {
		t.Errorf("%q doesn't say %q", r.stderr, text)
	}
	if r.stdout != "" {
		t.Errorf("stdout: %q", r.stdout)
	}
	if strings.Contains(r.stdout+r.stderr, "s3cret") {
		t.Errorf("it shows a password: %q", r.stderr)
	}
}

// process is a counterd that runs.
type process struct {
	*proctest.Process
	t      *testing.T
	listen string // as the log says
	admin  string
}

// begin runs counterd on free ports until it is listening, and ends it with the
// test.
func begin(t *testing.T, args ...string) *process {
	t.Helper()
	return listening(t, command(nil, args...))
}

// command is counterd on free ports, unless args say otherwise.
func command(env []string, args ...string) *exec.Cmd {
	cmd := proctest.Command(binary, args)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// listening starts cmd and waits until it is listening.
func listening(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := launch(t, cmd)
	p.awaitListening()
	return p
}

// launch starts cmd without waiting for it to listen.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	return &process{Process: proctest.Start(t, cmd), t: t}
}

func (p *process) awaitListening() {
	p.t.Helper()
	p.listen, p.admin = p.Listening()
}

// loseStore removes the file of its store, asks until nobody answers, and checks that
// it ends with code 1.
func (p *process) loseStore(file string) {
	p.t.Helper()
	if err := os.Remove(file); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "nobody answers", func() bool {
		resp, err := http.Get("http://" + p.listen)
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	p.Wait(1)
}

// get asks the counting listener and returns the body without its newline.
func (p *process) get(path string) string {
	p.t.Helper()
	code, body := get(p.t, "http://"+p.listen+path)
	if code != http.StatusOK {
		p.t.Fatalf("GET %s: %d %s", path, code, body)
	}
	return strings.TrimSuffix(body, "\n")
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func linuxOnly(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("Linux only")
	}
}

// activated is a command that inherits ln, as from systemd.
func activated(t *testing.T, ln *net.TCPListener, env []string, args ...string) *exec.Cmd {
	t.Helper()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// Only the shell knows the process id early enough.
	cmd := proctest.Command(binary, args, "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`)
	cmd.Env = append(cmd.Env, env...)
	cmd.ExtraFiles = []*os.File{f}
	return cmd
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}
