package proc

import "time"

// Usage is what a set of process trees has used since they were started.
// Two readings and Sub give the use in between.
type Usage struct {
	// CPU is exact, to the nanosecond where the kernel lets us.
	CPU time.Duration
	// User and Kernel come from clock ticks (10 ms); they say how CPU splits.
	User, Kernel time.Duration
	// Voluntary switches: it waited. Involuntary: it was put aside.
	Voluntary, Involuntary uint64
}

// Sub returns the use between before and u.
func (u Usage) Sub(before Usage) Usage {
	return Usage{
		CPU:         u.CPU - before.CPU,
		User:        u.User - before.User,
		Kernel:      u.Kernel - before.Kernel,
		Voluntary:   u.Voluntary - before.Voluntary,
		Involuntary: u.Involuntary - before.Involuntary,
	}
}

// Memory is the resident memory of a set of process trees, in bytes. Pages
// that several processes share are counted once for each.
type Memory struct {
	Resident, Peak int64
}
