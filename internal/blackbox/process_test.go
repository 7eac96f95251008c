//go:build linux

package blackbox

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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/engine"
)

// program builds counterd.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "counterd")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "../../cmd/counterd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// process is a counterd of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string
	admin  string
	logged *lockedBuffer
	ended  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) line(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() < 1<<20 {
		l.b.WriteString(s + "\n")
	}
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listening = regexp.MustCompile(`msg=listening listen=(\S+) admin=(\S+)`)

// run starts a command that becomes counterd, and waits until it listens.
func run(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), logged: &lockedBuffer{}, ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "COUNTERD_LISTEN=127.0.0.1:0", "COUNTERD_ADMIN=")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := make(chan []string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.logged.line(lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				addr <- m
			}
		}
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	select {
	case m := <-addr:
		p.addr, p.admin = m[1], m[2]
	case err := <-p.ended:
		p.ended <- err
		t.Fatalf("it did not start: %v\n%s", err, p.logged)
	case <-time.After(patience):
		t.Fatalf("it does not listen\n%s", p.logged)
	}
	return p
}

// terminate stops it as an operator does; it must end well.
func (p *process) terminate() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
		if err != nil {
			p.t.Errorf("stopped with %v\n%s", err, p.logged)
		}
	case <-time.After(patience):
		p.t.Errorf("it does not stop\n%s", p.logged)
	}
}

// status is a line of /proc/PID/status, in bytes.
func (p *process) status(field string) int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatalf("it has ended: %v\n%s", err, p.logged)
	}
	_, rest, _ := strings.Cut(string(b), "\n"+field+":")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n << 10
}

func (p *process) rss() int64 { return p.status("VmRSS") }

// cpu is the processor time it has used.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatalf("it has ended: %v\n%s", err, p.logged)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')'):]))
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond // of USER_HZ
}

// collect has it collect garbage. By itself it does so within two minutes; a
// server at rest makes no garbage that would make it sooner.
func (p *process) collect() {
	p.t.Helper()
	resp, err := http.Get("http://" + p.admin + "/debug/pprof/heap?gc=1")
	if err != nil {
		p.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

// descriptors is how many it has open.
func (p *process) descriptors() int {
	p.t.Helper()
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatalf("it has ended: %v\n%s", err, p.logged)
	}
	return len(d)
}

// TestFewDescriptors has 600 clients at a server that may open 150 files, once
// with the limit that it finds for itself, once with one that is too high.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	bin := program(t)
	for _, name := range engines {
		for _, limit := range [][]string{nil, {"--max-conns=100000"}} {
			t.Run(name+strings.Join(limit, ""), func(t *testing.T) {
				t.Parallel()
				p := run(t, "sh", append([]string{"-c", `ulimit -n 150; exec "$0" "$@"`, bin, "--engine=" + name, "--store=mem:"}, limit...)...)
				before := p.descriptors()
				var clients []*client
				answered := 0
				for range 600 {
					c, err := connect(p.addr)
					if err != nil {
						continue // the queue is full
					}
					defer c.Close()
					c.Write([]byte(get))
					clients = append(clients, c)
				}
				// Those that got in first have an answer.
				for _, c := range clients[:min(20, len(clients))] {
					if a, err := c.read("GET"); err == nil && a.status == 200 {
						answered++
					}
				}
				if answered == 0 {
					t.Error("nobody is served")
				}
				if limit != nil && !strings.Contains(p.logged.String(), "too many open files") {
					t.Error("it did not run out of descriptors")
				}
				used, began := p.cpu(), time.Now()
				time.Sleep(time.Second)
				if used = p.cpu() - used; used > time.Since(began)/4 {
					t.Errorf("spins: %v of processor time in %v", used, time.Since(began))
				}
				for _, c := range clients {
					c.Close()
				}
				wait(t, "it serves again", func() bool {
					c, err := connect(p.addr)
					if err != nil {
						return false
					}
					defer c.Close()
					c.Write([]byte(get))
					a, err := c.read("GET")
					return err == nil && a.status == 200
				})
				wait(t, "the descriptors are closed", func() bool { return p.descriptors() <= before+1 })
				p.terminate()
			})
		}
	}
}

// TestIdleMemory measures what an idle keep-alive connection costs.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	const conns = 10000
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); files.Cur < conns+300 {
		t.Skipf("only %d files may be open", files.Cur)
	}
	bin := program(t)
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			p := run(t, bin, "--engine="+name, "--store=mem:")
			warm := dial(t, p.addr)
			warm.send(get)
			warm.want(200)
			before := p.rss()
			idle := make([]net.Conn, 0, conns)
			defer func() {
				for _, nc := range idle {
					nc.(*net.TCPConn).SetLinger(0) // no port is left waiting
					nc.Close()
				}
			}()
			buf := make([]byte, 512)
			conns := conns
			if name != engine.Gnet {
				conns /= 4 // for comparison, and in less time
			}
			for range conns {
				nc, err := net.Dial("tcp", p.addr)
				if err != nil {
					t.Fatal(err)
				}
				idle = append(idle, nc)
				nc.Write([]byte(get))
				if n, err := nc.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200 ")) {
					t.Fatalf("%q, %v", buf[:n], err)
				}
			}
			each := (p.rss() - before) / int64(conns)
			t.Logf("%s: %d bytes of resident memory for each idle connection", name, each)
			if name == engine.Gnet && each > 1536 {
				t.Errorf("%d bytes, want at most 1536", each)
			}
			p.terminate()
		})
	}
}

// TestFloodOfNewPaths has a scanner ask for many paths that there is no room for:
// memory stays as it was, the log stays readable, and the path that exists counts on.
func TestFloodOfNewPaths(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	bin := program(t)
	dir := t.TempDir()
	for name, store := range map[string][]string{
		engine.Gnet:      {"--store=mem:"},
		engine.Goroutine: {"--store=dir:" + filepath.Join(dir, "always")},
		engine.Std:       {"--store=dir:" + filepath.Join(dir, "periodic"), "--sync=100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			const room, asked, scanners, depth = 1000, 20_000, 4, 100
			p := run(t, bin, append(store, "--engine="+name, "--per=path", fmt.Sprintf("--max-counters=%d", room))...)
			honest := dial(t, p.addr)
			honest.send(request("GET", "/known"))
			honest.wantNumber(1)
			before, began := p.rss(), time.Now()
			type result struct {
				counted, refused int
				err              error
			}
			results := make(chan result, scanners)
			for i := range scanners {
				go func() {
					var r result
					r.counted, r.refused, r.err = scan(p.addr, fmt.Sprintf("/scan/%d/%s/", i, strings.Repeat("x", 200)), asked/scanners, depth)
					results <- r
				}()
			}
			counted := 1
			hits := int64(1)
			for left := scanners; left > 0; {
				select {
				case r := <-results:
					left--
					counted += r.counted
					if r.err != nil || r.refused == 0 {
						t.Errorf("%d counted, %d refused: %v", r.counted, r.refused, r.err)
					}
				default:
					hits++
					honest.send(request("GET", "/known"))
					honest.wantNumber(hits)
				}
			}
			// Their names have 64 bytes each, so these long ones are fewer.
			if most := 64*room/200 + 1; counted < most/2 || counted > most {
				t.Errorf("%d counters, there is room for up to %d", counted, most)
			}
			honest.send(count + request("GET", "/count/known"))
			honest.wantNumber(hits + int64(counted) - 1)
			honest.wantNumber(hits)
			if grown := p.status("VmHWM") - before; grown > 24<<20 {
				t.Errorf("%d MiB more memory", grown>>20)
			}
			seconds := int(time.Since(began)/time.Second) + 1
			if lines := strings.Count(p.logged.String(), "\n"); lines > 2+seconds {
				t.Errorf("%d lines of log in %d s:\n%.2000s", lines, seconds, p.logged)
			}
			p.terminate()
		})
	}
}

// scan asks for n paths that begin so, each once.
func scan(addr, prefix string, n, depth int) (counted, refused int, err error) {
	c, err := connect(addr)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	for n > 0 {
		var out strings.Builder
		for range depth {
			n--
			out.WriteString(request("GET", prefix+strconv.Itoa(n)))
		}
		if _, err := io.WriteString(c, out.String()); err != nil {
			return counted, refused, err
		}
		for range depth {
			a, err := c.read("GET")
			switch {
			case err != nil:
				return counted, refused, err
			case a.status == http.StatusInsufficientStorage && !a.close:
				refused++
			case a.number() == 1:
				counted++
			default:
				return counted, refused, fmt.Errorf("%d %q, says close: %v", a.status, a.body, a.close)
			}
		}
	}
	return counted, refused, nil
}
