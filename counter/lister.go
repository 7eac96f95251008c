package counter

import (
	"bytes"
	"cmp"
	"context"
	"runtime"
	"slices"
	"sort"
	"sync"
)

// TableLister lists a Table that others count on. It takes their lock for a few
// microseconds at a time, and lets others run in between.
type TableLister struct {
	table *Table
	mu    sync.Locker

	// The counters in order of names, as far as they were needed. Names are never
	// removed, so only new ones must be put in. A slice that was given out isn't
	// changed any more.
	sorting chan struct{} // holds a token while somebody sorts
	order   []uint32
}

// piece is how many counters are looked at before others get their turn.
const piece = 512

// Lister returns a Lister of t, whose users hold mu.
func (t *Table) Lister(mu sync.Locker) *TableLister {
	return &TableLister{table: t, mu: mu, sorting: make(chan struct{}, 1)}
}

// Names is how many counters there are, and how many there may be.
func (l *TableLister) Names() (n, most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.table.Len()), l.table.Most()
}

// List returns the counters that q asks for.
func (l *TableLister) List(ctx context.Context, q Query) ([]Named, error) {
	if q.ByCount {
		return l.top(ctx, q)
	}
	v, order, err := l.sorted(ctx)
	if err != nil {
		return nil, err
	}
	from := sort.Search(len(order), func(i int) bool { return string(v.Name(int(order[i]))) >= q.Prefix })
	if q.After != "" && q.After >= q.Prefix {
		from = sort.Search(len(order), func(i int) bool { return string(v.Name(int(order[i]))) > q.After })
	}
	order = order[from:]
	order = order[:min(len(order), q.Limit)]
	end := sort.Search(len(order), func(i int) bool { return !v.hasPrefix(int(order[i]), q.Prefix) })
	list := make([]Named, 0, end)
	err = l.walk(ctx, v, order[:end], func(n Named) error {
		list = append(list, n)
		return nil
	})
	return list, err
}

// Each calls f for every counter in order of names.
func (l *TableLister) Each(ctx context.Context, f func(Named) error) error {
	v, order, err := l.sorted(ctx)
	if err != nil {
		return err
	}
	return l.walk(ctx, v, order, f)
}

func (v *View) hasPrefix(i int, prefix string) bool {
	name := v.Name(i)
	return len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix
}

// look returns the counters as of now.
func (l *TableLister) look() View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.table.View
}

// walk calls f for the counters with these numbers.
func (l *TableLister) walk(ctx context.Context, v View, numbers []uint32, f func(Named) error) error {
	var counts [piece]int64
	for part := range slices.Chunk(numbers, piece) {
		if err := pause(ctx); err != nil {
			return err
		}
		l.mu.Lock()
		for k, i := range part {
			counts[k] = v.entry(int(i)).count
		}
		l.mu.Unlock()
		for k, i := range part {
			if err := f(Named{string(v.Name(int(i))), counts[k]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause lets others run.
func pause(ctx context.Context) error {
	runtime.Gosched()
	return context.Cause(ctx)
}

// ranked is a counter as it was seen.
type ranked struct {
	number uint32
	count  int64
}

// top returns the largest counters.
func (l *TableLister) top(ctx context.Context, q Query) ([]Named, error) {
	v := l.look()
	limit := min(q.Limit, v.n)
	order := func(a, b ranked) int {
		if a.count != b.count {
			return cmp.Compare(b.count, a.count)
		}
		return bytes.Compare(v.Name(int(a.number)), v.Name(int(b.number)))
	}
	// The best so far, up to twice as many as are wanted; then the worse half goes.
	var best []ranked
	full := false // the first limit of best are sorted, and only better ones get in
	var counts [piece]int64
	for from := 0; from < v.n; from += piece {
		if err := pause(ctx); err != nil {
			return nil, err
		}
		part := counts[:min(piece, v.n-from)]
		l.mu.Lock()
		for k := range part {
			part[k] = v.entry(from + k).count
		}
		l.mu.Unlock()
		for k, count := range part {
			r := ranked{uint32(from + k), count}
			if full && order(best[limit-1], r) < 0 || !v.hasPrefix(from+k, q.Prefix) {
				continue
			}
			if best = append(best, r); len(best) == 2*limit {
				slices.SortFunc(best, order)
				best, full = best[:limit], true
			}
		}
	}
	slices.SortFunc(best, order)
	list := make([]Named, 0, limit)
	for _, r := range best[:min(limit, len(best))] {
		list = append(list, Named{string(v.Name(int(r.number))), r.count})
	}
	return list, nil
}

// sorted returns the counters as of now, and their numbers in order of names.
func (l *TableLister) sorted(ctx context.Context) (View, []uint32, error) {
	select {
	case l.sorting <- struct{}{}:
		defer func() { <-l.sorting }()
	case <-ctx.Done():
		return View{}, nil, context.Cause(ctx)
	}
	v := l.look()
	fresh := make([]uint32, v.n-len(l.order))
	for k := range fresh {
		fresh[k] = uint32(len(l.order) + k)
	}
	if err := v.sort(ctx, fresh); err != nil {
		return View{}, nil, err
	}
	if len(fresh) > 0 {
		order, err := v.merge(ctx, make([]uint32, 0, v.n), fresh, l.order)
		if err != nil {
			return View{}, nil, err
		}
		l.order = order
	}
	return v, l.order, nil
}

// sort sorts numbers by name, and lets others run meanwhile.
func (v *View) sort(ctx context.Context, numbers []uint32) (err error) {
	compared := 0
	slices.SortFunc(numbers, func(a, b uint32) int {
		if compared++; compared%(2*piece) == 0 && err == nil {
			err = pause(ctx)
		}
		if err != nil {
			return 0 // it is soon over, and its outcome isn't used
		}
		return bytes.Compare(v.Name(int(a)), v.Name(int(b)))
	})
	return err
}

// merge appends both, which are sorted and have no name in common, to to. Of the
// second it copies what lies between two of the first at once.
func (v *View) merge(ctx context.Context, to, a, b []uint32) ([]uint32, error) {
	for k, i := range a {
		if k%piece == piece-1 {
			if err := pause(ctx); err != nil {
				return nil, err
			}
		}
		name := v.Name(int(i))
		less := v.countLess(b, name)
		to = append(append(to, b[:less]...), i)
		b = b[less:]
	}
	return append(to, b...), nil
}

// countLess is how many of the sorted numbers have a name below that one: looked
// for from the beginning in steps that double, since it often is near.
func (v *View) countLess(numbers []uint32, name []byte) int {
	below := func(i int) bool { return bytes.Compare(v.Name(int(numbers[i])), name) < 0 }
	step := 1
	for step <= len(numbers) && below(step-1) {
		step *= 2
	}
	low, high := step/2, min(step, len(numbers)) // those below low are below the name
	return low + sort.Search(high-low, func(i int) bool { return !below(low + i) })
}
