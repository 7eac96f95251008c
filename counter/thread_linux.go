package counter

import "golang.org/x/sys/unix"

// scheduleNormally makes a thread of SCHED_BATCH one of SCHED_OTHER. Others stay
// as they are, and where the system refuses it stays one of SCHED_BATCH.
func scheduleNormally() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_BATCH {
		return
	}
	attr.Policy = unix.SCHED_NORMAL
	_ = unix.SchedSetAttr(0, attr, 0)
}
