package main

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// mounted mounts a filesystem for the test's duration, where it may.
func mounted(t *testing.T, source, fstype, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(source, dir, fstype, 0, options); err != nil {
		t.Skipf("mounting a %s: %v", fstype, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp writes into dir until its filesystem has no room.
func fillUp(t *testing.T, dir string) {
	t.Helper()
	f, err := os.CreateTemp(dir, "full")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailingDiskEndsTheServer: the disk below the filesystem fails under a commit, the kernel
// tells by its own means, and the server ends rather than to answer. On one core
// and on several it is asked in different ways.
func TestFailingDiskEndsTheServer(t *testing.T) {
	t.Parallel()
	t.Run("all cores", func(t *testing.T) { testDiskFails(t) })
	t.Run("one core", func(t *testing.T) { testDiskFails(t, "taskset", "-c", "0") })
}

// disk mounts a filesystem that lies in an image in another, below it.
func disk(t *testing.T) (dir, below, image string) {
	t.Helper()
	below = mounted(t, "tmpfs", "tmpfs", "size=16m")
	image = filepath.Join(below, "disk")
	if out, err := exec.Command("truncate", "-s", "64M", image).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", image).CombinedOutput(); err != nil {
		t.Skipf("making a filesystem: %v %s", err, out)
	}
	loop, err := exec.Command("losetup", "-f", "--show", image).Output()
	if err != nil {
		t.Skipf("a loopback device: %v", err)
	}
	device := strings.TrimSpace(string(loop))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", device).Run() })
	return mounted(t, device, "ext4", ""), below, image
}

// TestFrozenDiskGets503UntilItThaws: with --sync=DURATION hits go on for a while, then get 503. Health,
// metrics and the log say so, and that it is over.
func TestFrozenDiskGets503UntilItThaws(t *testing.T) {
	t.Parallel()
	dir, _, _ := disk(t)
	p := begin(t, "--store=file:"+filepath.Join(dir, "counterd.db"), "--sync=100ms")
	p.get("/")
	if out, err := exec.Command("fsfreeze", "-f", dir).CombinedOutput(); err != nil {
		t.Skipf("freezing a filesystem: %v %s", err, out)
	}
	thaw := sync.OnceFunc(func() {
		if out, err := exec.Command("fsfreeze", "-u", dir).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	t.Cleanup(thaw) // before anything that waits for the disk
	hit := func(want int) func() bool {
		return func() bool { code, _ := get(t, "http://"+p.listen); return code == want }
	}
	eventually(t, "hits get 503", hit(http.StatusServiceUnavailable))
	p.wantHealth("counterd_store_up 0", http.StatusServiceUnavailable)
	p.Await(`level=WARN msg="hits get 503" answers=\d+ err="the store hasn't been synced for too long"`)
	if code, _ := get(t, "http://"+p.listen+"/count"); code != http.StatusOK {
		t.Errorf("a read gets %d", code)
	}
	thaw()
	eventually(t, "hits are counted", hit(http.StatusOK))
	p.wantHealth("counterd_store_up 1", http.StatusOK)
	p.Await(`level=INFO msg="hits are counted again" answered503=\d+`)
	p.Stop()
}

func testDiskFails(t *testing.T, by ...string) {
	t.Parallel()
	dir, below, image := disk(t)
	cmd := command(nil, "--store=file:"+filepath.Join(dir, "counterd.db"))
	if len(by) > 0 {
		with, err := exec.LookPath(by[0])
		if err != nil {
			t.Skip(err)
		}
		cmd.Path, cmd.Args = with, slices.Concat(by, []string{cmd.Path}, cmd.Args[1:])
	}
	p := listening(t, cmd)
	p.get("/")
	// The disk's blocks are taken from below it, and there is no room to get
	// them again: whatever is written to it from now on is lost.
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 64<<20); err != nil {
		t.Fatal(err)
	}
	fillUp(t, below)
	if code, body := get(t, "http://"+p.listen); code != http.StatusServiceUnavailable {
		t.Errorf("a hit that can't be synced: %d %s", code, body)
	}
	p.Wait(1)
	p.Await(`level=ERROR msg="cannot go on" err="the store is lost`)
	if n := strings.Count(p.Log(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log, want one line:\n%s", n, p.Log())
	}
}
