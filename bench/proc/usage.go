package proc

import "time"

// Usage is what a set of process trees has used since they were started.
// Two readings and Sub give the use in between.
type Usage struct {
	// CPU is exact, to the nanosecond where the kernel lets us.
	CPU time.Duration
	// User and Kernel come from clock ticks (10 ms); they say how CPU splits.
	User, Kernel time.Duration
	// Ended is the part of CPU of children that ended.
	Ended time.Duration
	// Voluntary switches: it waited. Involuntary: it was put aside.
	Voluntary, Involuntary uint64
}

// Sub returns the use between before and u. The kernel keeps the CPU time of
// what ended in between, but not its switches: they are zero then, not told.
func (u Usage) Sub(before Usage) Usage {
	d := Usage{
		CPU:    u.CPU - before.CPU,
		User:   u.User - before.User,
		Kernel: u.Kernel - before.Kernel,
		Ended:  u.Ended - before.Ended,
	}
	if d.Ended == 0 && u.Voluntary >= before.Voluntary && u.Involuntary >= before.Involuntary {
		d.Voluntary, d.Involuntary = u.Voluntary-before.Voluntary, u.Involuntary-before.Involuntary
	}
	return d
}

// Memory is the resident memory of a set of process trees, in bytes. Pages
// that several processes share are counted once for each.
type Memory struct {
	Resident, Peak int64
}
