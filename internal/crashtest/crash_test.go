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

	"github.com/counterd/counterd/internal/proctest"
)

var (
	rounds  = flag.Int("crash.rounds", 0, "kills per engine; 0 is few enough for every test run")
	engines = flag.String("crash.engines", "gnet,goroutine,std", "engines to crash")
	pers    = flag.String("crash.per", "all,path", "values of --per to crash with")
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

// beside lets others run at the same time: a life is mostly waiting. In a long run
// each has the machine for itself.
func beside(t *testing.T) {
	if *rounds == 0 {
		t.Parallel()
	}
}

func eachMode(t *testing.T, f func(t *testing.T, m mode)) {
	for per := range strings.SplitSeq(*pers, ",") {
		for engine := range strings.SplitSeq(*engines, ",") {
			t.Run(engine+"/per="+per, func(t *testing.T) {
				beside(t)
				f(t, mode{engine, per})
			})
		}
	}
}

// campaign is a run over many lives of the server.
type campaign struct {
	*site
	books
	clock clock
	r     *rand.Rand
}

func newCampaign(s *site, seed uint64) *campaign {
	return &campaign{site: s, books: newBooks(s.names()), clock: clock{time.Now()}, r: rand.New(rand.NewPCG(seed, 1))}
}

// load is that of one life.
func (c *campaign) load() *load {
	return &load{addr: c.addr, names: c.books.names, conns: *conns, clock: &c.clock}
}

// short makes a life one that porcupine can check.
func (c *campaign) short(l *load) *load {
	l.limit = windowSize * 9 / 10
	if len(l.names) > 1 {
		l.limit *= 4
	}
	return l
}

// crash is one life: start, read, load, SIGKILL. It returns the first violation.
func (c *campaign) crash() error {
	p := c.serve()
	if err := c.reopened(); err != nil {
		return err
	}
	l := c.short(c.load())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Often within the first commits, sometimes in the middle of a long run.
	delay := time.Duration(c.r.ExpFloat64() * float64(25*time.Millisecond))
	time.AfterFunc(min(delay, 200*time.Millisecond), func() {
		p.Kill()
		cancel()
	})
	l.run(ctx, c.r.Uint64())
	<-p.Ended()
	return c.ended(l)
}

// ended checks what the life that is over has answered.
func (c *campaign) ended(l *load) error {
	ops, err := l.take()
	if err != nil {
		return err
	}
	return c.life(ops)
}

// reopened checks the counts that the next life begins with.
func (c *campaign) reopened() error {
	counts, sum, err := readCounts(c.addr, c.books.names)
	if err != nil {
		return err
	}
	return c.settled(counts, sum)
}

// stopped checks the counts that are left in the store.
func (c *campaign) stopped() error {
	counts, sum, err := c.shown(c.books.names)
	if err != nil {
		return err
	}
	return c.settled(counts, sum)
}

// finish is stopped for the last time.
func (c *campaign) finish() error {
	if err := c.stopped(); err != nil {
		return err
	}
	return c.flush()
}

func TestKill(t *testing.T) {
	binary := proctest.Counterd(t)
	seed := seed(t)
	n := *rounds
	if n == 0 {
		n = fewRounds
	}
	eachMode(t, func(t *testing.T, m mode) {
		c := newCampaign(newSite(t, binary, m), seed)
		start := time.Now()
		for i := range n {
			if err := c.crash(); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			if i%100 == 99 {
				t.Logf("%d rounds, %v each: %s", i+1, time.Since(start)/time.Duration(i+1), c.totals())
			}
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d rounds, %v each: %s", n, time.Since(start)/time.Duration(n), c.totals())
		c.checkedAll(t)
		if c.totals().windows == 0 {
			t.Error("porcupine checked nothing")
		}
	})
}

// checkedAll requires that there was something of each kind to check.
func (c *campaign) checkedAll(t *testing.T) {
	t.Helper()
	if n := c.totals(); n.answered == 0 || n.reads == 0 || c.per == "path" && n.sums == 0 {
		t.Errorf("nothing was checked: %s", n)
	}
}

// eachPer is for what doesn't depend on the engine.
func eachPer(t *testing.T, f func(t *testing.T, m mode)) {
	for per := range strings.SplitSeq(*pers, ",") {
		t.Run("per="+per, func(t *testing.T) {
			beside(t)
			f(t, mode{"goroutine", per})
		})
	}
}

// Every planted bug is found, and by the checkers, not by chance of a crash at
// the start.
func TestPlantedBugs(t *testing.T) {
	binary := proctest.Counterd(t, withBugs)
	seed := seed(t)
	eachPer(t, func(t *testing.T, m mode) {
		bugs := []string{"", "early-answer", "dirty-read", "off-by-one"}
		if m.per == "path" {
			bugs = append(bugs, "partial-sum")
		}
		for _, bug := range bugs {
			t.Run("bug="+bug, func(t *testing.T) { findBug(t, newCampaign(newSite(t, binary, m), seed), bug) })
		}
	})
}

func findBug(t *testing.T, c *campaign, bug string) {
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
		t.Errorf("not found in %d rounds: %s", n, c.totals())
	}
}

// G6: after SIGTERM every hit that was counted was answered, and the exit is 0.
// With --sync=DURATION a clean stop writes everything, too.
func TestTerminateAnswersWhatItCounted(t *testing.T) {
	binary := proctest.Counterd(t)
	seed := seed(t)
	n := max(3, *rounds/20)
	for _, sync := range []string{"always", "100ms", "1h"} {
		t.Run("sync="+sync, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				c := newCampaign(newSite(t, binary, m), seed)
				c.args = append(c.args, "--sync="+sync)
				for i := range n {
					if err := c.terminate(); err != nil {
						t.Fatalf("round %d: %v", i, err)
					}
				}
				if err := c.flush(); err != nil {
					t.Fatal(err)
				}
				t.Log(c.totals())
				c.checkedAll(t)
			})
		})
	}
}

func (c *campaign) terminate() error {
	p := c.serve()
	if err := c.reopened(); err != nil {
		return err
	}
	extra := make([]int64, len(c.accounts)) // counted and not answered, in lives before
	for i := range c.accounts {
		extra[i] = c.accounts[i].count - c.accounts[i].answered
	}
	l := c.load()
	// The server's close ends each client, not the end of the process: the last
	// answers may be in a client's socket still when the process is gone.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	delay := 10*time.Millisecond + time.Duration(c.r.Int64N(int64(50*time.Millisecond)))
	time.AfterFunc(delay, func() { p.Signal(syscall.SIGTERM) })
	l.run(ctx, c.r.Uint64())
	p.Wait(0)
	if err := c.ended(l); err != nil {
		return err
	}
	if err := c.stopped(); err != nil {
		return err
	}
	for i := range c.accounts {
		if a := &c.accounts[i]; a.count != a.answered+extra[i] {
			return c.on(i, fmt.Errorf("%d more hits were counted than answered\n%s", a.count-a.answered-extra[i], p.Log()))
		}
	}
	return nil
}

// A server that the system stops for a while goes on where it was. What waited
// longer than the store may take gets 503, and is counted once or not at all.
func TestStopAndContinue(t *testing.T) {
	binary := proctest.Counterd(t)
	seed := seed(t)
	eachMode(t, func(t *testing.T, m mode) {
		c := newCampaign(newSite(t, binary, m), seed)
		c.args = append(c.args, "--store-timeout=50ms")
		p := c.serve()
		l := c.load()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			defer cancel()
			for range 5 {
				time.Sleep(20 * time.Millisecond)
				p.Signal(syscall.SIGSTOP)
				time.Sleep(100 * time.Millisecond)
				p.Signal(syscall.SIGCONT)
			}
			time.Sleep(20 * time.Millisecond)
		}()
		l.run(ctx, seed)
		p.Kill()
		if err := c.ended(l); err != nil {
			t.Fatal(err)
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d answers were 503; %s", l.unavailable, c.totals())
		c.checkedAll(t)
	})
}

// Clients that come back by themselves while the server is killed and started
// again and again.
func TestClientsReconnectOverCrashes(t *testing.T) {
	binary := proctest.Counterd(t)
	seed := seed(t)
	n := max(5, *rounds/10)
	eachMode(t, func(t *testing.T, m mode) {
		c := newCampaign(newSite(t, binary, m), seed)
		l := c.load()
		l.reconnect = true
		ctx, cancel := context.WithCancel(context.Background())
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			l.run(ctx, seed)
		}()
		defer func() {
			cancel()
			<-loaded
		}()
		for range n {
			p := c.serve()
			time.Sleep(10*time.Millisecond + time.Duration(c.r.Int64N(int64(40*time.Millisecond))))
			p.Kill()
		}
		cancel()
		<-loaded
		if err := c.ended(l); err != nil {
			t.Fatal(err)
		}
		// One history over many lives: for porcupine it is mostly too long.
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d lives, %d connections: %s", n, l.next.Load(), c.totals())
		c.checkedAll(t)
	})
}

// When the disk can't be trusted any more: what waits gets 503, nothing later is
// answered, one clear line, exit 1; the next start goes on.
func TestFailedSyncEndsTheServer(t *testing.T) {
	binary := proctest.Counterd(t, withBugs)
	seed := seed(t)
	eachMode(t, func(t *testing.T, m mode) {
		c := newCampaign(newSite(t, binary, m), seed)
		c.env = []string{"COUNTERD_PLANTED_BUG=sync-fails"}
		p := c.serve()
		l := c.load()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			<-p.Ended()
			cancel()
		}()
		l.run(ctx, seed)
		p.Wait(1)
		failures := 0
		for line := range strings.Lines(p.Log()) {
			if strings.Contains(line, "fdatasync: input/output error") {
				failures++
			}
		}
		if failures != 1 {
			t.Errorf("%d lines that say why, want 1\n%s", failures, p.Log())
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
		t.Logf("%d answers were 503; %s", l.unavailable, c.totals())
		c.checkedAll(t)
	})
}

// A disk that is full: creating fails clearly and leaves nothing behind. A store
// that exists needs no more room, so counting, restarting and stopping go on.
func TestFullDiskKeepsCounting(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "counterd-crashtest", dir).CombinedOutput(); err != nil {
		t.Skipf("a full disk can't be tested without the permission to mount one: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	c := newCampaign(newSite(t, proctest.Counterd(t), mode{"gnet", "all"}), seed(t))
	c.path = filepath.Join(dir, "counts")
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
	other.path = filepath.Join(dir, "other")
	p := other.launch()
	p.Wait(1)
	if out := p.Log(); strings.Count(out, "\n") != 1 || !strings.Contains(out, "no space left on device") || !strings.Contains(out, other.path) {
		t.Errorf("it says %q, want one line with the file and the reason", out)
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
