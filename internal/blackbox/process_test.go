//go:build linux

package blackbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/engine"
	"github.com/counterd/counterd/internal/proctest"
	"github.com/counterd/counterd/internal/race"
)

// process is a counterd of its own.
type process struct {
	*proctest.Process
	t           *testing.T
	addr, admin string
}

// run starts counterd, by prefix, and waits until it listens.
func run(t *testing.T, args []string, prefix ...string) *process {
	t.Helper()
	p := &process{Process: proctest.Start(t, proctest.Command(proctest.Counterd(t), args, prefix...)), t: t}
	p.addr, p.admin = p.Listening()
	return p
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

// TestFewDescriptorsAreOutlived has 600 clients at a server that may open 150 files, once
// with the limit that it finds for itself, once with one that is too high.
func TestFewDescriptorsAreOutlived(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, name := range engines {
		for _, limit := range [][]string{nil, {"--max-conns=100000"}} {
			t.Run(name+strings.Join(limit, ""), func(t *testing.T) {
				t.Parallel()
				p := run(t, append(limit, "--engine="+name, "--store=mem:"), "sh", "-c", `ulimit -n 150; exec "$0" "$@"`)
				before := p.Descriptors()
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
				if limit != nil && !strings.Contains(p.Log(), "too many open files") {
					t.Error("it did not run out of descriptors")
				}
				used, began := p.CPU(), time.Now()
				time.Sleep(time.Second)
				if used = p.CPU() - used; used > time.Since(began)/4 {
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
				wait(t, "the descriptors are closed", func() bool { return p.Descriptors() <= before+1 })
				p.Stop()
			})
		}
	}
}

// TestIdleConnectionsTakeLittleMemory measures what an idle keep-alive connection costs.
func TestIdleConnectionsTakeLittleMemory(t *testing.T) {
	race.Spare(t)
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	const conns = 10000
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); files.Cur < conns+300 {
		t.Skipf("only %d files may be open", files.Cur)
	}
	for _, name := range engines {
		t.Run(name, func(t *testing.T) {
			p := run(t, []string{"--engine=" + name, "--store=mem:"})
			warm := dial(t, p.addr)
			warm.send(get)
			warm.want(200)
			before := p.Resident()
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
			each := (p.Resident() - before) / int64(conns)
			t.Logf("%s: %d bytes of resident memory for each idle connection", name, each)
			if name == engine.Gnet && each > 1536 {
				t.Errorf("%d bytes, want at most 1536", each)
			}
			p.Stop()
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
	dir := t.TempDir()
	for name, store := range map[string][]string{
		engine.Gnet:      {"--store=mem:"},
		engine.Goroutine: {"--store=dir:" + filepath.Join(dir, "always")},
		engine.Std:       {"--store=dir:" + filepath.Join(dir, "periodic"), "--sync=100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			const room, asked, scanners, depth = 1000, 20_000, 4, 100
			p := run(t, append(store, "--engine="+name, "--per=path", fmt.Sprintf("--max-counters=%d", room)))
			honest := dial(t, p.addr)
			honest.send(request("GET", "/known"))
			honest.wantNumber(1)
			before, began := p.Resident(), time.Now()
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
			if grown := p.Status("VmHWM") - before; grown > 24<<20 {
				t.Errorf("%d MiB more memory", grown>>20)
			}
			seconds := int(time.Since(began)/time.Second) + 1
			if lines := strings.Count(p.Log(), "\n"); lines > 2+seconds {
				t.Errorf("%d lines of log in %d s:\n%.2000s", lines, seconds, p.Log())
			}
			p.Stop()
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
