package contender

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/bench/load"
)

// environment builds what bench.sh builds, and has a cluster of its own.
func environment(t *testing.T) Env {
	t.Helper()
	e := Env{Bin: t.TempDir(), Peers: filepath.Join("..", "peers")}
	build := func(args ...string) {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	buildEpoll(t, e.Bin)
	build("go", "build", "-o", e.Bin, "../peers/...")
	build("go", "-C", "../..", "build", "-o", e.Bin, "./cmd/counterd")

	// Not t.TempDir: another user must be let through.
	dir, err := os.MkdirTemp("", "contender-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e.Postgres = &Cluster{Dir: dir}
	t.Cleanup(e.Postgres.Close)
	return e
}

func buildEpoll(t *testing.T, bin string) {
	t.Helper()
	out, err := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread",
		"-o", filepath.Join(bin, "epoll"), filepath.Join("..", "peers", "epoll", "epoll.c")).CombinedOutput()
	if err != nil {
		t.Logf("gcc: %v\n%s", err, out)
	}
}

func startFloor(t *testing.T, flags ...string) *Instance {
	t.Helper()
	e := Env{Bin: t.TempDir()}
	buildEpoll(t, e.Bin)
	if err := built("epoll")(e); err != nil {
		t.Skip(err)
	}
	in, err := startEpoll(t.Context(), e, append(flags, "0")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Stop)
	return in
}

// Each contender that can be had here starts, counts each request once, tells
// its count without counting, and is gone when it is stopped.
func TestEveryContenderCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two dozen servers and a database")
	}
	e := environment(t)
	for _, c := range All() {
		t.Run(c.Name, func(t *testing.T) {
			if err := c.Missing(e); err != nil {
				t.Skip(err)
			}
			e := e
			e.Data = t.TempDir()
			in, err := c.Start(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			defer in.Stop()
			if in.Count == nil {
				return
			}
			before := count(t, in)
			want := before + request(t, in)
			for range 3 { // reading must not count
				if got := count(t, in); got != want {
					t.Fatalf("count %d, want %d", got, want)
				}
			}
			in.Stop()
			if c.Protocol != SQL { // there the server is the cluster, which stays
				for _, pid := range in.Servers {
					if err := syscall.Kill(pid, 0); err == nil {
						t.Errorf("process %d lives on", pid)
					}
				}
			}
		})
	}
}

func count(t *testing.T, in *Instance) int64 {
	t.Helper()
	n, err := in.Count(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// request makes some requests and returns how many.
func request(t *testing.T, in *Instance) int64 {
	t.Helper()
	if in.Addr == "" {
		r, err := in.Load(t.Context(), load.Workload{Connections: 2, Threads: 1, Duration: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return r.Requests
	}
	const n = 25
	for i := range n {
		r, err := http.Get(fmt.Sprintf("http://%s/%d", in.Addr, i%5+1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
	return n
}

// The floor must do the same job whatever the segmentation, or its figure is
// no floor.
func TestEpollAnswersWhateverTheSegmentation(t *testing.T) {
	for _, flags := range [][]string{nil, {"--file", filepath.Join(t.TempDir(), "count")}} {
		answersWhateverTheSegmentation(t, startFloor(t, flags...))
	}
}

func answersWhateverTheSegmentation(t *testing.T, in *Instance) {
	const one = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	batch := strings.Repeat(one, 5)
	answered := int64(0)
	for step := 1; step <= len(batch); step++ {
		c, err := net.Dial("tcp", in.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for rest := batch; rest != ""; {
			n := min(step, len(rest))
			if _, err := io.WriteString(c, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		answers := bufio.NewReader(c)
		for range 5 {
			answered++
			if got := readNumber(t, answers); got != answered {
				t.Fatalf("in steps of %d: number %d, want %d", step, got, answered)
			}
		}
		c.Close()
	}
	if got := count(t, in); got != answered {
		t.Errorf("count %d, want %d", got, answered)
	}
}

func readNumber(t *testing.T, from *bufio.Reader) (n int64) {
	t.Helper()
	r, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := fmt.Fscan(r.Body, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A client that sends and doesn't read must not cost the floor an answer.
func TestEpollKeepsAnswersThatTheSocketRefuses(t *testing.T) {
	for _, flags := range [][]string{nil, {"--file", filepath.Join(t.TempDir(), "count")}} {
		keepsAnswers(t, startFloor(t, flags...))
	}
}

func keepsAnswers(t *testing.T, in *Instance) {
	c, err := net.Dial("tcp", in.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const n = 100_000 // 14 MB of answers, beyond what the sockets hold
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\n\r\n", n))
		sent <- err
	}()
	answers := bufio.NewReaderSize(c, 1<<20)
	for want := int64(1); want <= n; want++ {
		if got := readNumber(t, answers); got != want {
			t.Fatalf("number %d, want %d", got, want)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func TestMissingSaysWhat(t *testing.T) {
	c := Contender{Needs: []string{"a-program-that-nobody-has"}}
	if err := c.Missing(Env{}); err == nil || !strings.Contains(err.Error(), "a-program-that-nobody-has") {
		t.Errorf("got %v", err)
	}
	if err := built("counterd")(Env{Bin: t.TempDir()}); err == nil {
		t.Error("what was not built passed")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := startNginx(ctx, Env{Data: t.TempDir(), Peers: filepath.Join("..", "peers")}); err == nil {
		t.Error("it started though nobody waits for it")
	}
}

// The durable floor may answer only what its file holds.
func TestEpollFileAnswersWhatItHasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "count")
	in := startFloor(t, "--file", path)
	for want := uint64(1); want <= 5; want++ {
		r, err := http.Get("http://" + in.Addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		var got uint64
		_, err = fmt.Fscan(r.Body, &got)
		r.Body.Close()
		if err != nil || got != want {
			t.Fatalf("number %d, %v; want %d", got, err, want)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const block, value = 4096, 16 // where the records and their values begin
		held := max(binary.NativeEndian.Uint64(b[value:]), binary.NativeEndian.Uint64(b[block+value:]))
		if held != want {
			t.Errorf("answered %d, the file holds %d", want, held)
		}
	}
}
