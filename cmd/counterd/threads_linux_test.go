package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestThreads: all threads are SCHED_BATCH, those too that were started later,
// but for the committer's before a file.
func TestThreads(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		store  string
		normal int
	}{
		{"mem:", 0},
		{"file:" + filepath.Join(t.TempDir(), "c.db"), 1},
	} {
		p := begin(t, "--store="+test.store)
		for range 100 {
			p.get("/")
		}
		if code, _ := get(t, "http://"+p.admin+"/metrics"); code != http.StatusOK {
			t.Errorf("metrics: %d", code)
		}
		policies := threads(t, p.cmd.Process.Pid)
		batch, normal := policies[unix.SCHED_BATCH], policies[unix.SCHED_NORMAL]
		if batch < 2 || normal != test.normal {
			t.Errorf("--store=%s: %d threads are SCHED_BATCH, %d SCHED_OTHER; want %d of these", test.store, batch, normal, test.normal)
		}
	}
}

// threads counts a process's threads by how they are scheduled.
func threads(t *testing.T, pid int) map[uint32]int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		t.Fatal(err)
	}
	policies := make(map[uint32]int)
	for _, thread := range all {
		id, _ := strconv.Atoi(thread.Name())
		if attr, err := unix.SchedGetAttr(id, 0); err == nil { // it may have ended
			policies[attr.Policy]++
		}
	}
	return policies
}
