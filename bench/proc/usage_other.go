//go:build !linux

package proc

import (
	"runtime"
	"time"
)

// Tree returns the roots: only Linux tells us more.
func Tree(roots ...int) []int { return roots }

// ReadUsage reads nothing outside Linux.
func ReadUsage(...int) Usage { return Usage{} }

// ReadMemory reads nothing outside Linux.
func ReadMemory(...int) Memory { return Memory{} }

// Pin does nothing outside Linux.
func Pin([]int, ...int) error { return nil }

// AllCores lists the machine's cores.
func AllCores() []int {
	cores := make([]int, runtime.NumCPU())
	for i := range cores {
		cores[i] = i
	}
	return cores
}

// MachineBusy reads nothing outside Linux.
func MachineBusy() (busy, stolen time.Duration) { return 0, 0 }
