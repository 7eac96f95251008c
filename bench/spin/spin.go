// Package spin is work that is the same for every program: CPU time without
// memory, so that one server's work doesn't slow down another's.
package spin

import (
	"runtime"
	"time"
)

// Do does n steps, each of which needs the one before.
func Do(n uint64) uint64 {
	x := uint64(88172645463325252)
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// Steps says how many take about d here. Whoever compares programs asks once
// and gives all the same number.
func Steps(d time.Duration) uint64 {
	const n = 1_000_000
	fastest := time.Hour // whatever is slower was disturbed
	for range 5 {
		began := time.Now()
		runtime.KeepAlive(Do(n)) // or the compiler leaves the work out
		fastest = min(fastest, time.Since(began))
	}
	return uint64(float64(d) / float64(fastest) * n)
}
