package crashtest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/counter/filestore"
)

var (
	rounds  = flag.Int("crash.rounds", 0, "kills per engine; 0 is few enough for every test run")
	engines = flag.String("crash.engines", "gnet,goroutine,std", "engines to crash")
	seeded  = flag.Uint64("crash.seed", 0, "seed of the plan; 0 picks one")
	conns   = flag.Int("crash.conns", 16, "connections of the load")
)

const fewRounds = 20

func seed(t testing.TB) uint64 {
	s := *seeded
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash.seed=%d", s)
	return s
}

func eachEngine(t *testing.T, f func(t *testing.T, engine string)) {
	for engine := range strings.SplitSeq(*engines, ",") {
		t.Run(engine, func(t *testing.T) { f(t, engine) })
	}
}

// campaign is a run over many lives of the server.
type campaign struct {
	*site
	ledger
	windows
	clock   clock
	r       *rand.Rand
	pending []op // of the last life, until the count after it is known
}

func newCampaign(s *site, seed uint64) *campaign {
	return &campaign{site: s, clock: clock{time.Now()}, r: rand.New(rand.NewPCG(seed, 1))}
}

// crash is one life: start, read, load, SIGKILL. It returns the first violation.
func (c *campaign) crash() error {
	p, err := c.serve()
	if err != nil {
		return err
	}
	defer p.kill()
	if err := c.reopened(); err != nil {
		return err
	}
	l := &load{addr: c.addr, conns: *conns, limit: windowSize * 9 / 10, clock: &c.clock}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Often within the first commits, sometimes in the middle of a long run.
	delay := time.Duration(c.r.ExpFloat64() * float64(25*time.Millisecond))
	time.AfterFunc(min(delay, 200*time.Millisecond), func() {
		p.kill()
		cancel()
	})
	l.run(ctx, c.r.Uint64())
	<-p.exited
	return c.ended(l)
}

// ended checks what the life that is over has answered.
func (c *campaign) ended(l *load) error {
	ops, err := l.take()
	if err != nil {
		return err
	}
	if err := c.ledger.life(ops); err != nil {
		return err
	}
	c.pending = ops
	return nil
}

// reopened checks the count that the next life begins with.
func (c *campaign) reopened() error {
	count, err := readCount(c.addr)
	if err != nil {
		return err
	}
	return c.counted(count)
}

func (c *campaign) counted(count int64) error {
	if err := c.ledger.settled(count); err != nil {
		return err
	}
	ops := c.pending
	c.pending = nil
	return c.windows.life(ops, count)
}

// finish checks the count that is left in the file.
func (c *campaign) finish() error {
	count, err := filestore.Show(c.file)
	if err != nil {
		return err
	}
	if err := c.counted(count); err != nil {
		return err
	}
	if n := c.given.len(); int64(n) != c.answered {
		return fmt.Errorf("%d hits were answered with %d different numbers", c.answered, n)
	}
	return c.flush()
}

func (c *campaign) summary() string {
	return fmt.Sprintf("%d hits answered and %d reads checked; %d hits sent, %d counted; %d windows of %d operations by porcupine, %d lives too long for it",
		c.answered, c.ledger.reads, c.sent, c.windows.count, c.checked, c.total, c.skipped)
}

func TestKill(t *testing.T) {
	binary := build(t, "")
	seed := seed(t)
	n := *rounds
	if n == 0 {
		n = fewRounds
	}
	eachEngine(t, func(t *testing.T, engine string) {
		c := newCampaign(newSite(t, binary, engine), seed)
		start := time.Now()
		for i := range n {
			if err := c.crash(); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			if i%100 == 99 {
				t.Logf("%d rounds, %v each: %s", i+1, time.Since(start)/time.Duration(i+1), c.summary())
			}
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d rounds, %v each: %s", n, time.Since(start)/time.Duration(n), c.summary())
		if c.answered == 0 || c.ledger.reads == 0 || c.checked == 0 {
			t.Error("nothing was checked")
		}
	})
}

// Every planted bug is found, and by the checkers, not by chance of a crash at
// the start.
func TestPlantedBugs(t *testing.T) {
	binary := build(t, "plantedbugs")
	seed := seed(t)
	for _, bug := range []string{"", "early-answer", "dirty-read", "off-by-one"} {
		t.Run("bug="+bug, func(t *testing.T) {
			c := newCampaign(newSite(t, binary, "goroutine"), seed)
			c.env = []string{"COUNTERD_PLANTED_BUG=" + bug}
			n := 100
			if bug == "" {
				n = 3
			}
			for i := range n {
				err := c.crash()
				if err == nil {
					continue
				}
				if bug == "" || strings.Contains(err.Error(), "counterd ended") {
					t.Fatal(err)
				}
				t.Logf("found in round %d: %v", i+1, err)
				return
			}
			if bug != "" {
				t.Errorf("not found in %d rounds: %s", n, c.summary())
			}
		})
	}
}

// G6: after SIGTERM every hit that was counted was answered, and the exit is 0.
// With --sync=DURATION a clean stop writes everything, too.
func TestTerminate(t *testing.T) {
	binary := build(t, "")
	seed := seed(t)
	n := max(3, *rounds/20)
	for _, sync := range []string{"always", "1h"} {
		eachEngine(t, func(t *testing.T, engine string) {
			c := newCampaign(newSite(t, binary, engine), seed)
			c.args = append(c.args, "--sync="+sync)
			for i := range n {
				if err := c.terminate(); err != nil {
					t.Fatalf("--sync=%s, round %d: %v", sync, i, err)
				}
			}
			if err := c.flush(); err != nil {
				t.Fatal(err)
			}
			t.Logf("--sync=%s: %s", sync, c.summary())
		})
	}
}

func (c *campaign) terminate() error {
	p, err := c.serve()
	if err != nil {
		return err
	}
	defer p.kill()
	if err := c.reopened(); err != nil {
		return err
	}
	before, answered := c.windows.count, c.answered
	l := &load{addr: c.addr, conns: *conns, clock: &c.clock}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	delay := 10*time.Millisecond + time.Duration(c.r.Int64N(int64(50*time.Millisecond)))
	time.AfterFunc(delay, func() { _ = p.signal(syscall.SIGTERM) })
	go func() {
		<-p.exited
		cancel()
	}()
	l.run(ctx, c.r.Uint64())
	code, err := p.wait()
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("exit %d after SIGTERM\n%s", code, p.output())
	}
	if err := c.ended(l); err != nil {
		return err
	}
	count, err := filestore.Show(c.file)
	if err != nil {
		return err
	}
	if count-before != c.answered-answered {
		return fmt.Errorf("%d hits were counted, %d answered\n%s", count-before, c.answered-answered, p.output())
	}
	return c.counted(count)
}

// A server that the system stops for a while goes on where it was. What waited
// longer than the store may take gets 503, and is counted once or not at all.
func TestStopAndContinue(t *testing.T) {
	binary := build(t, "")
	seed := seed(t)
	eachEngine(t, func(t *testing.T, engine string) {
		c := newCampaign(newSite(t, binary, engine), seed)
		c.args = append(c.args, "--store-timeout=50ms")
		p, err := c.serve()
		if err != nil {
			t.Fatal(err)
		}
		defer p.kill()
		l := &load{addr: c.addr, conns: *conns, clock: &c.clock}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			defer cancel()
			for range 5 {
				time.Sleep(20 * time.Millisecond)
				_ = p.signal(syscall.SIGSTOP)
				time.Sleep(100 * time.Millisecond)
				_ = p.signal(syscall.SIGCONT)
			}
			time.Sleep(20 * time.Millisecond)
		}()
		l.run(ctx, seed)
		p.kill()
		if err := c.ended(l); err != nil {
			t.Fatal(err)
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d answers were 503; %s", l.unavailable, c.summary())
	})
}

// Clients that come back by themselves while the server is killed and started
// again and again.
func TestReconnect(t *testing.T) {
	binary := build(t, "")
	seed := seed(t)
	n := max(5, *rounds/10)
	eachEngine(t, func(t *testing.T, engine string) {
		c := newCampaign(newSite(t, binary, engine), seed)
		l := &load{addr: c.addr, conns: *conns, clock: &c.clock, reconnect: true}
		ctx, cancel := context.WithCancel(context.Background())
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			l.run(ctx, seed)
		}()
		for range n {
			p, err := c.serve()
			if err != nil {
				t.Error(err)
				break
			}
			time.Sleep(10*time.Millisecond + time.Duration(c.r.Int64N(int64(40*time.Millisecond))))
			p.kill()
		}
		cancel()
		<-loaded
		if err := c.ended(l); err != nil {
			t.Fatal(err)
		}
		c.pending = nil // one history over many lives: the direct rule only
		count, err := filestore.Show(c.file)
		if err == nil {
			err = c.ledger.settled(count)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d lives: %d hits answered and %d reads checked, %d connections", n, c.answered, c.ledger.reads, l.next.Load())
	})
}

// When the disk can't be trusted any more: what waits gets 503, nothing later is
// answered, one clear line, exit 1; the next start goes on.
func TestSyncFails(t *testing.T) {
	binary := build(t, "plantedbugs")
	seed := seed(t)
	eachEngine(t, func(t *testing.T, engine string) {
		c := newCampaign(newSite(t, binary, engine), seed)
		c.env = []string{"COUNTERD_PLANTED_BUG=sync-fails"}
		p, err := c.serve()
		if err != nil {
			t.Fatal(err)
		}
		defer p.kill()
		l := &load{addr: c.addr, conns: *conns, clock: &c.clock}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			<-p.exited
			cancel()
		}()
		l.run(ctx, seed)
		code, err := p.wait()
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for line := range strings.Lines(p.output()) {
			if strings.Contains(line, "fdatasync: input/output error") {
				failures++
			}
		}
		if code != 1 || failures != 1 {
			t.Errorf("exit %d, %d lines that say why; want 1 and 1\n%s", code, failures, p.output())
		}
		if err := c.ended(l); err != nil {
			t.Fatal(err)
		}
		if l.unavailable == 0 {
			t.Error("nobody got 503")
		}
		c.env = nil
		for range 2 {
			if err := c.crash(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d answers were 503; %s", l.unavailable, c.summary())
	})
}

// A disk that is full: creating fails clearly and leaves nothing behind. A store
// that exists needs no more room, so counting, restarting and stopping go on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "counterd-crashtest", dir).CombinedOutput(); err != nil {
		t.Skipf("a full disk can't be tested without the permission to mount one: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	c := newCampaign(newSite(t, build(t, ""), "gnet"), seed(t))
	c.file = filepath.Join(dir, "c.db")
	if err := c.crash(); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "ballast"))
	for range 3 {
		if err := c.crash(); err != nil {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	if err := c.terminate(); err != nil {
		t.Fatalf("on a full disk: %v", err)
	}
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}

	other := *c.site
	other.file = filepath.Join(dir, "other.db")
	p, _, err := other.launch()
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.wait()
	if err != nil {
		t.Fatal(err)
	}
	if out := p.output(); code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "no space left on device") || !strings.Contains(out, other.file) {
		t.Errorf("exit %d with %q; want 1 and one line with the file and the reason", code, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}
