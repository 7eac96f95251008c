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

// share divides descriptors between counting connections, admin connections,
// and what the process itself opens: the store, pollers, connections that are
// being refused. The reserve is 256, or half of a small limit.
func share(descriptors uint64) (conns, admin int) {
	reserve := min(256, descriptors/2)
	return int(min(max(descriptors-reserve, 1), math.MaxInt32)), int(max(reserve/4, 2))
}
