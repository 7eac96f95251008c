package counter

import (
	"context"
	"sync"
)

// Store keeps counts that only grow: one, or one for each of many names.
type Store interface {
	// Add does what the deltas ask for, all of it or nothing, sets what is theirs
	// to be set, and returns the sum of all counters after it. When err is nil
	// that is durable. Without a delta it only reads the sum. A name comes at most
	// once in a call, and a store with a single counter gets at most one delta.
	// One goroutine at a time calls Add.
	//
	// ErrFull: the sum would pass 2^63-1; nothing was added. ErrLost: never
	// again. Any other error: whether it was added is unknown, and the next call
	// may succeed. ctx ends once nobody waits for the outcome.
	Add(ctx context.Context, deltas []Delta) (sum int64, err error)

	// Close releases the store. Nothing is called after it.
	Close() error
}

// InstantStore is a store that never waits. Between Lock and Unlock it belongs to
// whoever locked it, so that a batch finds all its counters at one moment.
type InstantStore interface {
	sync.Locker

	// AddNow adds hits ≥ 0 to a counter and returns its total and the sum of all.
	// It is called between Lock and Unlock. 0 hits make no counter. With any error
	// nothing was added, and total and sum are good.
	//
	// ErrFull: the sum would pass 2^63-1. ErrTooMany: the counter is new, and there
	// is no room for it. ErrClosed: after Close, which must not lose what was
	// counted before it. ErrLost: never again.
	AddNow(name []byte, hits int64) (total, sum int64, err error)

	// Lost returns a channel that is closed when the store was lost while nobody
	// asked it, since it writes in the background; AddNow then says why. It is nil
	// for a store that can't be.
	Lost() <-chan struct{}

	// Close releases the store, once what it holds is durable where it keeps
	// anything. It locks the store by itself.
	Close() error
}
