package crashtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/proctest"
)

// A power cut with the real kernel and a real ext4: SIGKILL leaves the page cache
// alone, so it can't show a missing sync. Here the filesystem is in an image
// behind a loop device. At a random moment the server is stopped and the image
// is copied: what isn't in it, the power cut takes. The next server runs on the
// copy.
func TestPowerCut(t *testing.T) {
	n := max(5, *rounds/20)
	eachMode(t, func(t *testing.T, m mode) {
		c := newCampaign(newSite(t, proctest.Counterd(t), m), seed(t))
		computer := newMachine(t, c)
		for i := range n {
			if err := computer.cutPower(); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d power cuts: %s", n, c.totals())
		c.checkedAll(t)
	})
}

// The planted bug that only a power cut can show.
func TestPowerCutFindsAMissingSync(t *testing.T) {
	eachPer(t, func(t *testing.T, m mode) {
		c := newCampaign(newSite(t, proctest.Counterd(t, withBugs), m), seed(t))
		c.env = []string{"COUNTERD_PLANTED_BUG=no-sync"}
		computer := newMachine(t, c)
		for i := range 10 {
			if err := computer.cutPower(); err != nil {
				t.Logf("found in round %d: %v", i+1, err)
				return
			}
		}
		t.Errorf("not found: %s", c.totals())
	})
}

// machine is a computer whose disk is an image.
type machine struct {
	*campaign
	t     *testing.T
	image string
	mount string
}

func newMachine(t *testing.T, c *campaign) *machine {
	t.Helper()
	size := int64(4 << 20)
	if c.per == "path" {
		size = 64 << 20 // a log has 32 MiB
	}
	dir := t.TempDir()
	m := &machine{campaign: c, t: t, image: filepath.Join(dir, "disk0"), mount: filepath.Join(dir, "mnt")}
	c.path = filepath.Join(m.mount, "counts")
	if err := os.Mkdir(m.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.image, size); err != nil {
		t.Fatal(err)
	}
	if err := command("mkfs.ext4", "-q", m.image); err != nil {
		t.Skipf("a power cut can't be tested without mkfs.ext4: %v", err)
	}
	if err := m.on(); err != nil {
		t.Skipf("a power cut can't be tested without the permission to mount an image: %v", err)
	}
	t.Cleanup(func() { _ = m.off() })
	return m
}

func (m *machine) on() error  { return command("mount", "-o", "loop", m.image, m.mount) }
func (m *machine) off() error { return command("umount", m.mount) }

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// cutPower is one life of the server, and of the machine.
func (m *machine) cutPower() error {
	p := m.serve()
	if err := m.reopened(); err != nil {
		return err
	}
	l := m.short(m.load())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	copied := make(chan error, 1)
	delay := min(time.Duration(m.r.ExpFloat64()*float64(30*time.Millisecond)), 200*time.Millisecond)
	time.AfterFunc(delay, func() {
		defer cancel()
		copied <- m.copyStopped(p)
	})
	l.run(ctx, m.r.Uint64())
	if err := <-copied; err != nil {
		return err
	}
	p.Kill()
	if err := m.off(); err != nil {
		return err
	}
	if err := os.Rename(m.image+".cut", m.image); err != nil {
		return err
	}
	if err := m.on(); err != nil {
		return err
	}
	return m.ended(l)
}

// copyStopped copies the image while nothing writes to it: neither the process nor
// what it has asked the kernel to sync.
func (m *machine) copyStopped(p *proctest.Process) error {
	p.Signal(syscall.SIGSTOP)
	if err := stopped(p.Pid()); err != nil {
		return err
	}
	content, err := os.ReadFile(m.image)
	for err == nil {
		var again []byte
		again, err = os.ReadFile(m.image)
		if err == nil && bytes.Equal(content, again) {
			return os.WriteFile(m.image+".cut", content, 0o600)
		}
		content = again
	}
	return err
}

// stopped waits until every thread has stopped.
func stopped(pid int) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		running := 0
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err == nil && !bytes.Contains(stat, []byte(") T ")) {
				running++
			}
		}
		if len(stats) > 0 && running == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("process %d doesn't stop", pid)
}
