package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAllThreadsAreBatch: all threads are SCHED_BATCH, those too that were started later.
func TestAllThreadsAreBatch(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"mem:", "file:" + filepath.Join(t.TempDir(), "c.db")} {
		p := begin(t, "--store="+store)
		for range 100 {
			p.get("/")
		}
		if code, _ := get(t, "http://"+p.admin+"/metrics"); code != http.StatusOK {
			t.Errorf("metrics: %d", code)
		}
		policies := threads(t, p.Pid())
		batch, normal := policies[unix.SCHED_BATCH], policies[unix.SCHED_NORMAL]
		if batch < 2 || normal != 0 {
			t.Errorf("--store=%s: %d threads are SCHED_BATCH, %d SCHED_OTHER", store, batch, normal)
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
