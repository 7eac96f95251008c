package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
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
	dir, err := os.MkdirTemp("", "counterd-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "counterd")
	if out, err := exec.Command("go", "build", raceFlag, "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// environment is what a child needs, without variables that configure counterd.
func environment(extra []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(),
		"GORACE=atexit_sleep_ms=0"} // else each end of a -race binary takes a second
	return append(env, extra...)
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
	cmd.Env = environment(env)
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
	t      *testing.T
	cmd    *exec.Cmd
	ended  chan struct{}
	listen string // as the log says
	admin  string

	mu      sync.Mutex
	log     strings.Builder
	changed chan struct{} // closed at the next line
}

// begin runs counterd on free ports until it is listening, and ends it with the
// test.
func begin(t *testing.T, args ...string) *process {
	t.Helper()
	return listening(t, command(nil, args...))
}

// command is counterd on free ports, unless args say otherwise.
func command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0"}, args...)...)
	cmd.Env = environment(env)
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
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, ended: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.log.WriteString(lines.Text() + "\n")
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
		}
		_ = cmd.Wait() // the state says how it ended
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-p.ended
	})
	return p
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// await waits for a line of the log that matches, and returns it with its
// groups.
func (p *process) await(expr string) []string {
	p.t.Helper()
	re := regexp.MustCompile(expr)
	for late := time.After(30 * time.Second); ; {
		p.mu.Lock()
		m, changed := re.FindStringSubmatch(p.log.String()), p.changed
		p.mu.Unlock()
		if m != nil {
			return m
		}
		select {
		case <-changed:
		case <-p.ended:
			if m := re.FindStringSubmatch(p.logged()); m != nil {
				return m
			}
			p.t.Fatalf("it ended with code %d before %q:\n%s", p.cmd.ProcessState.ExitCode(), expr, p.logged())
		case <-late:
			p.t.Fatalf("no %q in:\n%s", expr, p.logged())
		}
	}
}

func (p *process) awaitListening() {
	p.t.Helper()
	m := p.await(`msg=listening listen=(\S+) admin=(\S+) `)
	p.listen, p.admin = m[1], m[2]
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end and checks the exit code.
func (p *process) wait(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("it doesn't end:\n%s", p.logged())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d:\n%s", got, code, p.logged())
	}
}

// stop stops it cleanly.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.wait(0)
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
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, binary, "--admin=127.0.0.1:0"}, args...)...)
	cmd.Env = environment(env)
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
