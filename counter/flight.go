package counter

import (
	"context"
	"errors"
	"math"
	"unsafe"
)

// flight is a commit on its way: what the store is asked, and how its answer falls
// to the batches. A batch may time out and leave while the store works; so the
// flight keeps what it needs of it.
type flight struct {
	deltas []Delta
	steps  []step           // the runs of all batches, in order
	delta  map[string]int32 // by name; nil until there was one
	names  []byte           // of the deltas

	batches int    // how many took off
	hits    int64  // theirs
	left    int    // how many of them still wait
	last    *Batch // the last of these
	weight  int64  // of those that still wait
	gone    int    // steps of the batches that have left, which were the first
}

// step is a run of a batch.
type step struct {
	delta int32 // -1: a read of the sum
	hits  int32
}

// most is how much memory a flight keeps for the next one.
const most = 1 << 20

// reset makes room for the next commit.
func (f *flight) reset() {
	clear(f.delta)
	if cap(f.names) > most || cap(f.steps) > most/8 {
		*f = flight{}
		return
	}
	*f = flight{deltas: f.deltas[:0], steps: f.steps[:0], delta: f.delta, names: f.names[:0]}
}

// take adds a batch.
func (f *flight) take(b *Batch) {
	for i := range b.runs {
		r := &b.runs[i]
		s := step{delta: -1, hits: r.hits}
		if r.what != readingSum {
			s.delta = f.deltaOf(b.name(r))
			f.deltas[s.delta].Hits += int64(r.hits)
		}
		f.steps = append(f.steps, s)
	}
	f.batches++
	f.hits += b.hits
	f.left++
	f.weight += b.weight()
	f.last = b
}

// deltaOf returns the delta of a counter. The only counter of its store has no
// name and needs no map.
func (f *flight) deltaOf(name []byte) int32 {
	if len(name) == 0 {
		if len(f.deltas) == 0 {
			f.deltas = append(f.deltas, Delta{})
		}
		return 0
	}
	if i, ok := f.delta[string(name)]; ok {
		return i
	}
	at := len(f.names)
	f.names = append(f.names, name...)
	name = f.names[at:len(f.names):len(f.names)]
	i := int32(len(f.deltas))
	f.deltas = append(f.deltas, Delta{Name: name})
	if f.delta == nil {
		f.delta = make(map[string]int32)
	}
	// The key is the bytes themselves: they don't change before reset empties the
	// map, and a key of its own would cost an allocation per name and commit.
	f.delta[unsafe.String(&name[0], len(name))] = i
	return i
}

// commit asks the store. With ErrFull the sum and the totals are good.
func (f *flight) commit(ctx context.Context, s Store) (sum int64, err error) {
	sum, err = s.Add(ctx, f.deltas)
	if !errors.Is(err, ErrFull) {
		return sum, err
	}
	// One after the other, as far as they fit.
	for i := range f.deltas {
		if sum, err = fill(ctx, s, f.deltas[i:i+1]); err != nil {
			return 0, err
		}
	}
	return sum, ErrFull
}

// fill adds as much of one delta as fits, and leaves in Hits how much that was.
func fill(ctx context.Context, s Store, d []Delta) (sum int64, err error) {
	for tried := int64(-1); ; tried = d[0].Hits {
		if sum, err = s.Add(ctx, nil); err != nil {
			return 0, err
		}
		d[0].Hits = min(d[0].Hits, math.MaxInt64-sum)
		if d[0].Hits == tried {
			d[0].Hits = 0 // the sum has room: this counter is full, by somebody's hand
		}
		// Somebody else may take the rest in between; then the next round sees less.
		if sum, err = s.Add(ctx, d); !errors.Is(err, ErrFull) {
			return sum, err
		}
	}
}

// land makes the deltas' totals the number before the first hit of each, and
// returns the sum before the first.
func (f *flight) land(sum int64) int64 {
	for i := range f.deltas {
		d := &f.deltas[i]
		if d.Refused {
			d.Hits = 0
		}
		d.Total -= d.Hits
		sum -= d.Hits
	}
	return sum
}

// pass goes over the run of a batch, or of one that has left (r is nil then),
// and gives its hits the next numbers of their counter.
func (f *flight) pass(s step, sum *int64, r *run) {
	if s.delta < 0 {
		if r != nil {
			r.first = *sum
		}
		return
	}
	d := &f.deltas[s.delta]
	n := min(int64(s.hits), d.Hits)
	if r != nil {
		r.first, r.granted, r.reason = d.Total, int32(n), full
		if d.Refused {
			r.reason = tooMany
		}
		if r.what == hitting {
			r.first++
		}
	}
	d.Hits -= n
	d.Total += n
	*sum += n
}
