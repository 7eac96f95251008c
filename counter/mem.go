package counter

import (
	"math"
	"sync"
)

// memory is what stores in memory have in common.
type memory struct {
	sync.Mutex
	closed bool
}

// Lost returns nil: memory isn't lost.
func (m *memory) Lost() <-chan struct{} { return nil }

// Close ends the counting.
func (m *memory) Close() error {
	m.Lock()
	defer m.Unlock()
	m.closed = true
	return nil
}

// Mem is one counter in memory, which is forgotten with the process. The zero
// value starts at 0. It is an InstantStore.
type Mem struct {
	memory
	total int64
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

// MemTable is a counter for each of many names in memory. It is an InstantStore
// and a Lister.
type MemTable struct {
	memory
	*TableLister
	table *Table
}

// NewMemTable returns a MemTable without counters, which makes at most most.
func NewMemTable(most int64) *MemTable {
	m := &MemTable{table: NewTable(most)}
	m.TableLister = m.table.Lister(m)
	return m
}

// AddNow adds hits to the counter of that name.
func (m *MemTable) AddNow(name []byte, hits int64) (total, sum int64, err error) {
	if m.closed {
		total, _ = m.table.Add(name, 0)
		return total, m.table.Sum(), ErrClosed
	}
	total, err = m.table.Add(name, hits)
	return total, m.table.Sum(), err
}
