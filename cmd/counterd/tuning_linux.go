package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// scheduleAsBatch makes all threads of the process, and so those that they will
// start, SCHED_BATCH: when they wake up they don't interrupt whoever has the core.
// A loop that a first answer or request wakes would interrupt the client that is
// about to send more; so it comes to them when they are there, and takes all in
// one turn. Its share of the core is the same. Where the system refuses, threads
// stay as they are.
func scheduleAsBatch() {
	const rounds = 10 // a thread may start another meanwhile; a sandbox may only say that it obeys
	for range rounds {
		changed := false
		threads, _ := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			id, _ := strconv.Atoi(t.Name())
			attr, err := unix.SchedGetAttr(id, 0)
			if err != nil || attr.Policy != unix.SCHED_NORMAL {
				continue
			}
			attr.Policy = unix.SCHED_BATCH
			changed = unix.SchedSetAttr(id, attr, 0) == nil || changed
		}
		if !changed {
			return
		}
	}
}
