package pgstore_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is a request as its client saw it. Times are since the run's beginning.
type op struct {
	client     int
	name       string // of the counter; empty if there is one, or for the sum of many
	start, end time.Duration
	read       bool
	value      int64 // the number of the hit, or the count that was read; 0 with unknown
	unknown    bool  // a hit without an answer: counted at some time after start, or never
}

// verdict is what check found out about a history.
type verdict struct {
	hits, reads int64
	unknown     int64 // hits without an answer
	counted     int64 // how many of those must have been counted
	windows     int
}

func (v *verdict) add(w verdict) {
	v.hits += w.hits
	v.reads += w.reads
	v.unknown += w.unknown
	v.counted += w.counted
	v.windows += w.windows
}

// check proves that a history is linearizable: that there is one order of all
// requests, in keeping with real time, in which each hit gets the count before
// it plus one and each read gets the count. A hit without an answer may stand
// anywhere after its start, or nowhere.
//
// In such an order requests are sorted by their values, which makes it cheap:
// numbers that nobody was answered are given to the unanswered hits, the earliest
// start to the lowest number (if any assignment is in keeping with real time,
// then this one is). Porcupine then checks windows of that order, each starting
// with the count of the one before; across windows real time is compared.
func check(history []op) (v verdict, err error) {
	var known, unknown []op
	for _, o := range history {
		switch {
		case o.unknown:
			unknown = append(unknown, o)
		case o.read:
			v.reads++
			known = append(known, o)
		default:
			v.hits++
			known = append(known, o)
		}
	}
	v.unknown = int64(len(unknown))

	top := int64(0)
	answered := map[int64]int{}
	for _, o := range known {
		top = max(top, o.value)
		if o.read {
			continue
		}
		if other, twice := answered[o.value]; twice {
			return v, fmt.Errorf("number %d was answered twice, to clients %d and %d", o.value, other, o.client)
		}
		answered[o.value] = o.client
	}
	slices.SortFunc(unknown, func(a, b op) int { return cmp.Compare(a.start, b.start) })
	for n := int64(1); n <= top; n++ {
		if _, ok := answered[n]; ok {
			continue
		}
		if v.counted == int64(len(unknown)) {
			return v, fmt.Errorf("number %d was answered to nobody, and no unanswered hit is left to have got it", n)
		}
		u := unknown[v.counted]
		u.value, u.unknown, u.end = n, false, math.MaxInt64
		known = append(known, u)
		v.counted++
	}
	return v, checkOrder(known, &v)
}

// checkOrder checks a history in which every hit has a number.
func checkOrder(history []op, v *verdict) error {
	slices.SortStableFunc(history, func(a, b op) int {
		if c := cmp.Compare(a.value, b.value); c != 0 {
			return c
		}
		// The hit first: reads of its number come after it.
		return cmp.Compare(b2i(a.read), b2i(b.read))
	})
	latest := time.Duration(-1) // start of all before the window
	count := int64(0)
	const size = 30 // the search is exponential in the reads that overlap
	for len(history) > 0 {
		n := min(size, len(history))
		for n < len(history) && history[n].read { // reads stay with their number
			n++
		}
		window := history[:n]
		history = history[n:]
		v.windows++
		starts := latest
		for _, o := range window {
			if o.end < latest {
				return fmt.Errorf("client %d got %d (read %t) at %v, but a lower value was asked for only at %v", o.client, o.value, o.read, o.end, latest)
			}
			starts = max(starts, o.start)
		}
		if !porcupine.CheckOperations(model(count), operations(window)) {
			return fmt.Errorf("not linearizable between %d and %d", count, window[n-1].value)
		}
		latest = starts
		count = window[n-1].value
	}
	return nil
}

func model(count int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return count },
		Step: func(state, input, output any) (bool, any) {
			n, got := state.(int64), output.(int64)
			if input.(bool) { // a read
				return got == n, n
			}
			return got == n+1, n + 1
		},
	}
}

func operations(window []op) []porcupine.Operation {
	ops := make([]porcupine.Operation, len(window))
	for i, o := range window {
		ops[i] = porcupine.Operation{ClientId: o.client, Input: o.read, Output: o.value, Call: int64(o.start), Return: int64(o.end)}
	}
	return ops
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestCheckFindsWhatIsWrong: the checker finds what is wrong, and only that.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	hit := func(start, end time.Duration, v int64) op { return op{start: start, end: end, value: v} }
	read := func(start, end time.Duration, v int64) op { return op{start: start, end: end, value: v, read: true} }
	lost := func(start time.Duration) op { return op{start: start, end: start + 5, unknown: true} }
	for _, c := range []struct {
		name    string
		history []op
		ok      bool
	}{
		{"in order", []op{hit(0, 1, 1), hit(2, 3, 2), read(4, 5, 2)}, true},
		{"concurrent", []op{hit(0, 9, 2), hit(1, 8, 1), read(2, 3, 0), read(4, 5, 2)}, true},
		{"twice", []op{hit(0, 1, 1), hit(2, 3, 1)}, false},
		{"numbers against time", []op{hit(0, 1, 2), hit(2, 3, 1)}, false},
		{"read of what was not yet", []op{read(0, 1, 1), hit(2, 3, 1)}, false},
		{"stale read", []op{hit(0, 1, 1), hit(2, 3, 2), read(4, 5, 1)}, false},
		{"reads go down", []op{hit(0, 9, 1), read(1, 2, 1), read(3, 4, 0)}, false},
		{"a gap", []op{hit(0, 1, 2)}, false},
		{"a gap that a lost hit fills", []op{lost(0), hit(6, 7, 2)}, true},
		{"a lost hit that counts late", []op{lost(0), hit(6, 7, 1), read(8, 9, 1), read(20, 21, 2)}, true},
		{"a lost hit that came too late", []op{hit(0, 1, 2), lost(2)}, false},
		{"a lost hit that never counts", []op{lost(0), hit(6, 7, 1)}, true},
		{"one lost hit for two gaps", []op{lost(0), hit(6, 7, 3)}, false},
		{"count goes down after a failover", []op{hit(0, 1, 1), hit(2, 3, 2), read(4, 5, 1), hit(6, 7, 3)}, false},
	} {
		if _, err := check(c.history); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Across windows.
	var long []op
	for i := range int64(3000) {
		at := time.Duration(10 * i)
		long = append(long, hit(at, at+15, i+1))
	}
	if v, err := check(long); err != nil || v.windows < 50 {
		t.Errorf("long: %v, %+v", err, v)
	}
	if _, err := check(append(long, read(29000, 29001, 100))); err == nil {
		t.Error("a stale read far back was not found")
	}
}
