package counter

import (
	"context"
	"errors"
)

// ErrTooMany says that a hit would have made a new counter where there is no room
// for another. Nothing was counted.
var ErrTooMany = errors.New("too many counters")

// MaxName is the length of the longest name of a counter, in bytes. A name may
// hold any octets.
const MaxName = 1024

// Delta is what a commit does to one counter.
type Delta struct {
	// Name is the counter's. It is empty where a store has a single counter. It
	// belongs to the caller: a store that keeps it copies it.
	Name []byte

	// Hits is what is added, ≥ 0. With 0 the counter is read, and not made.
	Hits int64

	// Total is set by the store: the count after it. A counter that doesn't exist
	// has 0.
	Total int64

	// Refused is set by the store: the counter doesn't exist and there is no room
	// for another. Nothing was counted on it; the other deltas are good.
	Refused bool
}

// Named is a counter's name with its count.
type Named struct {
	Name  string
	Count int64
}

// Query asks for a part of the counters.
type Query struct {
	Prefix  string // of the names wanted
	ByCount bool   // the largest first, equal ones in order of names; else in order of names, by bytes
	After   string // in order of names: only what stands behind this one
	Limit   int    // how many at most, > 0
}

// Lister shows the counters of a store that has many. It is safe for concurrent
// use, and must not hold up those who count: what it returns may be up to a
// commit old, and need not be of one moment.
type Lister interface {
	// List returns the counters that q asks for.
	List(ctx context.Context, q Query) ([]Named, error)

	// Each calls f for every counter in order of names, until it returns an
	// error, which Each returns.
	Each(ctx context.Context, f func(Named) error) error

	// Names is how many counters there are, and how many there may be.
	Names() (n, most int64)
}
