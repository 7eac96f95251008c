package counter

import (
	"bytes"
	"time"
)

// Batch is what somebody asks of the counters, in order: hits, and reads between
// them. Reset it, call Hit, Read and ReadSum, and submit it; from then on it is
// the counter's, until it is settled. Then Number tells what became of each, and
// it can be used again, also from within Done. One goroutine at a time.
//
// The zero value is an empty batch. It keeps its memory from one use to the next.
type Batch struct {
	// Done is called once when the batch is settled, unless the call that
	// submitted it returned true. It runs on a goroutine of the counter, of a
	// submitter, also within its own Commit, or within Close; one at a time and in
	// order of submission, so it must not block. It may call Submit, not Commit or
	// Close.
	Done func(*Batch)

	runs  []run
	names []byte // of the runs, one after the other
	hits  int64  // of all runs
	err   error  // why all of it failed

	next     *Batch
	deadline time.Duration // since Counter.epoch
}

// run is a number of hits in a row on one counter, or a read.
type run struct {
	name   uint32 // where it begins in Batch.names
	size   uint16 // its length
	what   uint8
	reason uint8 // why not all hits were granted
	hits   int32

	granted int32
	first   int64 // the number of the first hit, or what the read shows
}

// What a run is.
const (
	hitting uint8 = iota
	reading
	readingSum
)

// Why hits of a run were not granted.
const (
	granted uint8 = iota
	full
	tooMany
)

// Place is where in its batch a hit or a read stands.
type Place struct{ run, nth int32 }

// Reset empties the batch.
func (b *Batch) Reset() {
	b.runs, b.names, b.hits, b.err = b.runs[:0], b.names[:0], 0, nil
}

// Hit adds a hit on a counter. A counter without a name is the only one of its
// store. The name is copied.
func (b *Batch) Hit(name []byte) Place {
	b.hits++
	if last := len(b.runs) - 1; last >= 0 {
		r := &b.runs[last]
		if r.what == hitting && bytes.Equal(b.name(r), name) {
			r.hits++
			return Place{int32(last), r.hits - 1}
		}
	}
	b.add(hitting, name)
	b.runs[len(b.runs)-1].hits = 1
	return Place{run: int32(len(b.runs) - 1)}
}

// Read adds a read of a counter: it shows the count after all hits that stand
// before it, 0 if there is no such counter.
func (b *Batch) Read(name []byte) Place { return b.add(reading, name) }

// ReadSum adds a read of the sum of all counters.
func (b *Batch) ReadSum() Place { return b.add(readingSum, nil) }

func (b *Batch) add(what uint8, name []byte) Place {
	b.runs = append(b.runs, run{name: uint32(len(b.names)), size: uint16(len(name)), what: what})
	b.names = append(b.names, name...)
	return Place{run: int32(len(b.runs) - 1)}
}

func (b *Batch) name(r *run) []byte { return b.names[r.name:][:r.size:r.size] }

// Size is how much memory the batch keeps, in bytes.
func (b *Batch) Size() int { return 32*cap(b.runs) + cap(b.names) }

// Number returns the number of a hit, or the count that a read shows. The errors
// are ErrFull and ErrTooMany, which concern this hit alone, and those of a batch
// that failed as a whole: ErrTimeout, ErrOverloaded, ErrClosed, ErrLost, and the
// store's.
func (b *Batch) Number(p Place) (int64, error) {
	if b.err != nil {
		return 0, b.err
	}
	r := &b.runs[p.run]
	switch {
	case r.what != hitting:
		return r.first, nil
	case p.nth < r.granted:
		return r.first + int64(p.nth), nil
	case r.reason == tooMany:
		return 0, ErrTooMany
	default:
		return 0, ErrFull
	}
}

// weight is what a waiting batch counts against Options.MaxWaiting.
func (b *Batch) weight() int64 { return b.hits + int64(len(b.runs)) + int64(len(b.names)/64) + 1 }
