package counter

import (
	"math"
	"sync"
)

// Mem is one counter in memory, which is forgotten with the process. The zero
// value starts at 0. It is an InstantStore.
type Mem struct {
	sync.Mutex
	total  int64
	closed bool
}

// NewMem returns a Mem that starts at 0.
func NewMem() *Mem { return new(Mem) }

// AddNow adds hits to the only counter, whatever the name.
func (m *Mem) AddNow(_ []byte, hits int64) (total, sum int64, err error) {
	switch {
	case m.closed:
		return m.total, m.total, ErrClosed
	case hits > math.MaxInt64-m.total:
		return m.total, m.total, ErrFull
	}
	m.total += hits
	return m.total, m.total, nil
}

// Lost returns nil: memory isn't lost.
func (m *Mem) Lost() <-chan struct{} { return nil }

// Close ends the counting.
func (m *Mem) Close() error {
	m.Lock()
	defer m.Unlock()
	m.closed = true
	return nil
}
