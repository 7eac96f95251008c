//go:build linux

package blackbox

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var attackDuration = flag.Duration("attack.duration", 3*time.Second, "how long TestHonestClientsOutliveAnAttack lasts; from 30s on it has all attackers, and a close bound for latency")

// TestHonestClientsOutliveAnAttack has honest clients count while others do their worst, from
// processes of their own, on another core than the server's: slow-loris,
// clients that pipeline and do not read, endless heads, garbage, endless
// chunks, connections opened and reset.
func TestHonestClientsOutliveAnAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	d := *attackDuration
	serious := d >= 30*time.Second
	if !serious {
		t.Parallel()
	}
	const timeout = time.Second // so that they act in a short run, too
	timeouts := []string{"--read-timeout=" + timeout.String(), "--write-timeout=" + timeout.String()}
	scale := 10
	if serious {
		timeouts, scale = nil, 1
	}
	file := filepath.Join(t.TempDir(), "counter.db")
	p := run(t, append(timeouts, "--engine=gnet", "--store=file:"+file, "--sync=always"), pinned(0)...)

	calm := role(t, "honest", p.addr, scale)
	time.Sleep(max(d/6, time.Second))
	var quiet honestReport
	calm.end(&quiet)
	descriptors, rss := p.Descriptors(), p.Resident()

	attackers := role(t, "attack", p.addr, scale)
	honest := role(t, "honest", p.addr, scale)
	late := measureLag()
	time.Sleep(d)
	machine := late.end()
	var during honestReport
	honest.end(&during)
	open, peak, used := p.Descriptors(), p.Status("VmHWM"), p.CPU()
	var attack attackReport
	attackers.end(&attack)

	t.Logf("calm: %d answers, p50 %v, p99 %v", quiet.Answered, quiet.P50, quiet.P99)
	t.Logf("attacked: %d answers, p50 %v, p99 %v, max %v", during.Answered, during.P50, during.P99, during.Max)
	t.Logf("attack: %d whole requests; connections: %v", attack.Requests, attack.Connections)
	t.Logf("server: %d descriptors, at most %d MiB resident, %v of processor time", open, peak>>20, used)

	if during.Lost != 0 || quiet.Lost != 0 || during.Answered == 0 {
		t.Errorf("honest clients lost %d requests: %v", during.Lost+quiet.Lost, during.Errors)
	}
	limit := max(5*quiet.P99, 50*time.Millisecond)
	if !serious {
		// Other tests run beside this one. Who waits for an attacker waits for a timeout.
		limit = max(limit, timeout/2) + machine
	}
	if during.P99 > limit {
		t.Errorf("p99 is %v, want at most %v", during.P99, limit)
	}
	if peak > 150<<20 {
		t.Errorf("%d MiB of memory", peak>>20)
	}
	wait(t, "the descriptors are closed", func() bool { return p.Descriptors() <= descriptors })
	for range 3 { // what pools keep outlives two
		p.collect()
	}
	wait(t, "the memory returns", func() bool { return p.Resident() < rss+16<<20 })
	t.Logf("afterwards: %d descriptors (before: %d), %d MiB resident (before: %d)", p.Descriptors(), descriptors, p.Resident()>>20, rss>>20)

	c := dial(t, p.addr)
	c.send(count)
	n := c.want(200).number()
	answered, sent := quiet.Answered+during.Answered, quiet.Sent+during.Sent+attack.Requests
	t.Logf("answered to the honest %d ≤ count %d ≤ sent %d", answered, n, sent)
	if n < answered || n > sent {
		t.Error("the count is wrong")
	}
	c.Close()
	p.Stop()
}

// pinned runs a command on one core, where that can be.
func pinned(core int) []string {
	if _, err := exec.LookPath("taskset"); err != nil || runtime.NumCPU() <= core {
		return nil
	}
	return []string{"taskset", "-c", fmt.Sprint(core)}
}

// actor is a process of this very test binary that plays a role.
type actor struct {
	t    *testing.T
	cmd  *exec.Cmd
	says *json.Decoder // first that it is ready, at the end its report
}

const roleVariable = "BLACKBOX_ROLE"

// ready is said once SIGTERM is waited for: before, it would kill.
const ready = "ready"

// role starts an actor, and returns when it plays.
func role(t *testing.T, name, addr string, scale int) *actor {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(pinned(1), self)
	a := &actor{t: t, cmd: exec.Command(args[0], args[1:]...)}
	a.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", roleVariable, name, addr, scale))
	a.cmd.Stderr = os.Stderr
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.says = json.NewDecoder(out)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.cmd.Process.Kill(); a.cmd.Wait() })
	var first string
	if err := a.says.Decode(&first); err != nil || first != ready {
		t.Fatalf("%s: said %q, %v; want %q", name, first, err, ready)
	}
	return a
}

// end asks the actor to end, and takes its report.
func (a *actor) end(report any) {
	a.t.Helper()
	a.cmd.Process.Signal(syscall.SIGTERM)
	if err := a.says.Decode(report); err != nil {
		a.t.Fatalf("no report: %v", err)
	}
	if err := a.cmd.Wait(); err != nil {
		a.t.Fatal(err)
	}
}

// play is what an actor does instead of testing. It returns false if this
// process is none.
func play() bool {
	var name, addr string
	var scale int
	if _, err := fmt.Sscan(os.Getenv(roleVariable), &name, &addr, &scale); err != nil {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	out := json.NewEncoder(os.Stdout)
	out.Encode(ready)
	var report any
	switch name {
	case "honest":
		report = beHonest(ctx, addr)
	case "attack":
		report = attack(ctx, addr, scale)
	}
	out.Encode(report)
	return true
}

type honestReport struct {
	Answered, Sent, Lost int64
	P50, P99, Max        time.Duration
	Errors               []string
}

// beHonest runs 50 clients, each on one keep-alive connection, that count, wait
// for the answer, and think for a moment.
func beHonest(ctx context.Context, addr string) honestReport {
	var mu sync.Mutex
	var r honestReport
	var took []time.Duration
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			times, sent, err := honestClient(ctx, addr)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, times...)
			r.Sent += sent
			r.Lost += sent - int64(len(times))
			if err != nil {
				r.Errors = append(r.Errors, err.Error())
			}
		})
	}
	clients.Wait()
	r.Answered = int64(len(took))
	if len(took) == 0 {
		return r
	}
	slices.Sort(took)
	r.P50, r.P99, r.Max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	return r
}

func honestClient(ctx context.Context, addr string) (took []time.Duration, sent int64, err error) {
	c, err := connect(addr)
	if err != nil {
		return nil, 1, err
	}
	defer c.Close()
	last := int64(0)
	for ctx.Err() == nil {
		began := time.Now()
		c.SetDeadline(began.Add(30 * time.Second))
		sent++
		if _, err := io.WriteString(c, get); err != nil {
			return took, sent, err
		}
		a, err := c.read("GET")
		if err != nil {
			return took, sent, err
		}
		if a.number() <= last || a.close {
			return took, sent, fmt.Errorf("answer %d %q after %d", a.status, a.body, last)
		}
		last = a.number()
		took = append(took, time.Since(began))
		time.Sleep(time.Duration(10+rand.IntN(20)) * time.Millisecond)
	}
	return took, sent, nil
}

type attackReport struct {
	Requests    int64 // whole requests sent, at most
	Connections map[string]int64
}

// attackers are all who do a thing, each of them over and over.
type attackers struct {
	name  string
	count int
	pause time.Duration // between one connection and the next
	do    func(ctx context.Context, c net.Conn, sent *atomic.Int64)
}

func attack(ctx context.Context, addr string, scale int) attackReport {
	report := attackReport{Connections: make(map[string]int64)}
	var requests atomic.Int64
	var all sync.WaitGroup
	opened := make([]atomic.Int64, len(attacks))
	for i, kind := range attacks {
		for range max(kind.count/scale, 1) {
			all.Go(func() {
				for sleep(ctx, rand.N(2*kind.pause)) {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						continue
					}
					opened[i].Add(1)
					kind.do(ctx, c, &requests)
					c.Close()
				}
			})
		}
	}
	all.Wait()
	for i, kind := range attacks {
		report.Connections[kind.name] = opened[i].Load()
	}
	report.Requests = requests.Load()
	return report
}

// sleep returns false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

var attacks = []attackers{
	{"slow-loris", 5000, time.Second, func(ctx context.Context, c net.Conn, _ *atomic.Int64) {
		head := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1000)
		for i := 0; sleep(ctx, 4*time.Second); i++ {
			if _, err := io.WriteString(c, head[i:i+1]); err != nil {
				return
			}
		}
	}},
	{"pipelining without reading", 500, time.Second, func(ctx context.Context, c net.Conn, sent *atomic.Int64) {
		c.(*net.TCPConn).SetReadBuffer(4096)
		const many = 250
		burst := strings.Repeat(get, many)
		total := 0
		defer func() { sent.Add(int64(total / len(get))) }()
		for sleep(ctx, 500*time.Millisecond) {
			c.SetWriteDeadline(time.Now().Add(15 * time.Second))
			n, err := io.WriteString(c, burst)
			total += n
			if err != nil {
				return
			}
		}
	}},
	{"1 MiB heads", 200, 2 * time.Second, func(_ context.Context, c net.Conn, _ *atomic.Int64) {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 1045))
	}},
	{"garbage", 100, 500 * time.Millisecond, func(_ context.Context, c net.Conn, _ *atomic.Int64) {
		b := make([]byte, 4096)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		b[0] = 0 // never a request
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write(b)
		io.Copy(io.Discard, c)
	}},
	{"endless chunks", 50, time.Second, func(ctx context.Context, c net.Conn, _ *atomic.Int64) {
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
			return
		}
		for chunks := strings.Repeat("1;x=y\r\na\r\n", 1000); sleep(ctx, 100*time.Millisecond); {
			c.SetWriteDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.WriteString(c, chunks); err != nil {
				return
			}
		}
	}},
	{"open and reset", 20, 50 * time.Millisecond, func(_ context.Context, c net.Conn, sent *atomic.Int64) {
		sent.Add(3)
		io.WriteString(c, get+get+get+"GET")
		c.(*net.TCPConn).SetLinger(0)
	}},
}
