package counter

import (
	"context"
	"math"
	"sync/atomic"
)

// Mem counts in memory and forgets with the process. The zero value starts at 0.
// It is safe for concurrent use.
type Mem struct {
	total atomic.Int64
}

// NewMem returns a Mem that starts at 0.
func NewMem() *Mem { return new(Mem) }

// AddNow adds n and returns the new total. It fails only with [ErrFull].
func (m *Mem) AddNow(n int64) (int64, error) {
	if n == 0 {
		return m.total.Load(), nil
	}
	for {
		old := m.total.Load()
		if n > math.MaxInt64-old {
			return old, ErrFull
		}
		// Not a plain atomic add: it could pass the end and be seen there.
		if m.total.CompareAndSwap(old, old+n) {
			return old + n, nil
		}
	}
}

// Add is AddNow.
func (m *Mem) Add(_ context.Context, n int64) (int64, error) { return m.AddNow(n) }

// Close does nothing.
func (m *Mem) Close() error { return nil }
