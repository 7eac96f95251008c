package main

import (
	"math"
	"syscall"
)

// descriptors is how many file descriptors this process may have open. The Go
// runtime has already raised the soft limit to the hard one.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what POSIX systems usually grant
	}
	return uint64(limit.Cur)
}

// ownDescriptors is how many the process has without the engine's: standard input,
// output and error, Go's runtime, two listeners, the store, and its socket for
// newcomers.
const ownDescriptors = 18

// share divides descriptors between counting connections, admin connections, and what
// the process itself opens, of which the engine needs some. The reserve is 256, or half
// of a small limit, but never less than what is needed. most is what
// counting connections may have with what is left of it: some may need two.
func share(descriptors uint64, engine int) (conns, most, admin int) {
	const leastAdmin, mostAdmin = 2, 64
	needed := uint64(ownDescriptors + engine)
	reserve := max(min(256, descriptors/2), needed+leastAdmin)
	spare := reserve - needed
	admins := min(max(reserve/4, leastAdmin), spare, mostAdmin)
	counting := uint64(1)
	if descriptors > reserve {
		counting = descriptors - reserve
	}
	bounded := func(n uint64) int { return int(min(n, math.MaxInt32)) }
	return bounded(counting), bounded(counting + spare - admins), int(admins)
}
