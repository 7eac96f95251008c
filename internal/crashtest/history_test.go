package crashtest

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// never is the time of an answer that didn't come.
const never = math.MaxInt64

// unanswered is the connection of a hit of which it isn't known which one it was.
const unanswered = -1

// theSum is the counter that a read of the sum of all is about.
const theSum = -1

// op is one request: a hit, or a read of a count.
type op struct {
	hit       bool
	conn, nth int   // requests on one connection take effect in order
	call, ret int64 // nanoseconds since the start of the run
	value     int64 // the hit's number, or the count; nothing if ret is never
	of        int   // the number of the counter, or theSum
}

func (o op) String() string {
	kind := "read"
	switch {
	case o.hit:
		kind = "hit"
	case o.of == theSum:
		kind = "read of the sum"
	}
	if o.ret == never {
		return fmt.Sprintf("%s on connection %d, sent at %v, outcome unknown", kind, o.conn, time.Duration(o.call))
	}
	return fmt.Sprintf("%s on connection %d, sent at %v, answered %d at %v",
		kind, o.conn, time.Duration(o.call), o.value, time.Duration(o.ret))
}

// ledger checks one counter over a whole run, one life of the server after the
// other, by the direct rule.
type ledger struct {
	given    bitset
	floor    int64 // the highest value that anybody has seen
	answered int64
	sent     int64 // hits
	reads    int64
}

// life checks the operations of one life, of which nothing goes on after it.
// ops of one connection are in the order in which they were sent.
func (l *ledger) life(ops []op) error {
	if err := connectionOrder(ops); err != nil {
		return err
	}
	if err := l.notMoreThanSent(ops); err != nil {
		return err
	}
	if err := l.realTime(ops); err != nil {
		return err
	}
	for _, o := range ops {
		if o.hit {
			l.sent++
		}
		if o.ret == never {
			continue
		}
		l.floor = max(l.floor, o.value)
		if !o.hit {
			l.reads++
			continue
		}
		if o.value < 1 || !l.given.add(o.value) {
			return fmt.Errorf("number given twice, or no number: %v", o)
		}
		l.answered++
	}
	return nil
}

// settled checks the count between two lives, when nothing is on its way.
func (l *ledger) settled(count int64) error {
	switch {
	case count < l.floor:
		return fmt.Errorf("the count is %d, and %d was seen before", count, l.floor)
	case count < l.answered:
		return fmt.Errorf("the count is %d, and %d hits were answered", count, l.answered)
	case count > l.sent:
		return fmt.Errorf("the count is %d, and %d hits were sent", count, l.sent)
	}
	l.floor = count
	return nil
}

func connectionOrder(ops []op) error {
	last := map[int]op{}
	for _, o := range ops {
		if o.ret == never {
			continue
		}
		before, ok := last[o.conn]
		if ok && (o.value < before.value || o.hit && o.value == before.value) {
			return fmt.Errorf("out of order on one connection: %v; then %v", before, o)
		}
		last[o.conn] = o
	}
	return nil
}

// notMoreThanSent: no answer may show more hits than were sent by then.
func (l *ledger) notMoreThanSent(ops []op) error {
	var calls []int64
	for _, o := range ops {
		if o.hit {
			calls = append(calls, o.call)
		}
	}
	slices.Sort(calls)
	for _, o := range ops {
		if o.ret == never {
			continue
		}
		by, _ := slices.BinarySearch(calls, o.ret+1)
		if o.value > l.sent+int64(by) {
			return fmt.Errorf("more than the %d hits that were sent by then: %v", l.sent+int64(by), o)
		}
	}
	return nil
}

// realTime: what was answered before another was sent comes before it.
func (l *ledger) realTime(ops []op) error {
	byCall := slices.SortedFunc(slices.Values(ops), func(a, b op) int { return cmp.Compare(a.call, b.call) })
	byRet := slices.SortedFunc(slices.Values(ops), func(a, b op) int { return cmp.Compare(a.ret, b.ret) })
	before := op{ret: 0, value: l.floor}
	for _, o := range byCall {
		for ; byRet[0].ret < o.call; byRet = byRet[1:] {
			if byRet[0].value > before.value {
				before = byRet[0]
			}
		}
		if o.ret != never && (o.value < before.value || o.hit && o.value == before.value) {
			return fmt.Errorf("against real time: %v; then %v", before, o)
		}
	}
	return nil
}

// bitset is a set of small numbers.
type bitset []uint64

// add returns false if n is in the set already.
func (s *bitset) add(n int64) bool {
	i, bit := int(n/64), uint64(1)<<(n%64)
	if i >= len(*s) {
		*s = append(*s, make([]uint64, i+1024-len(*s))...)
	}
	if (*s)[i]&bit != 0 {
		return false
	}
	(*s)[i] |= bit
	return true
}

func (s bitset) len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// windows collects the lives of one counter until they are as many operations as
// porcupine can check, and has them checked.
type windows struct {
	start   int64 // the count before the first
	count   int64 // the count after the last
	ops     []op
	checked int // windows
	total   int // operations in them
	skipped int // lives that were too long
}

const windowSize = 2000

// life adds one life, which ended then, and after which the count is count. No
// outcome may be unknown.
func (w *windows) life(known []op, count, ended int64) error {
	// The count that the next life begins with, read when nobody counts.
	known = append(known, op{conn: unanswered, call: ended + 1, ret: ended + 2, value: count})
	if len(w.ops)+len(known) > windowSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(known) > windowSize {
		w.skipped++
		w.start, known = count, nil
	}
	w.ops = append(w.ops, known...)
	w.count = count
	return nil
}

// resolve turns unknown outcomes into known ones. A hit whose answer didn't come
// has counted before the life ended, or never. The numbers from before to after
// that nobody was given tell how many have. Which ones may be chosen freely:
// such a hit may take effect at any time since it was sent, so if any choice
// explains the history, then the one that gives the lowest free number to the
// hit that was sent first does, and so on.
func resolve(ops []op, before, after, ended int64) ([]op, error) {
	var known, unknown []op
	taken := make(map[int64]bool, len(ops))
	for _, o := range ops {
		switch {
		case o.ret != never:
			known = append(known, o)
			if o.hit {
				taken[o.value] = true
			}
		case o.hit:
			unknown = append(unknown, o)
		}
	}
	slices.SortStableFunc(unknown, func(a, b op) int { return cmp.Compare(a.call, b.call) })
	for n := before + 1; n <= after; n++ {
		if taken[n] {
			continue
		}
		if len(unknown) == 0 {
			return nil, fmt.Errorf("number %d was counted, and no hit that was sent is left for it", n)
		}
		o := unknown[0]
		unknown = unknown[1:]
		o.conn, o.ret, o.value = unanswered, ended, n
		known = append(known, o)
	}
	return known, nil
}

// flush checks what was collected.
func (w *windows) flush() error {
	if len(w.ops) == 0 {
		return nil
	}
	if err := linearizable(w.start, w.ops); err != nil {
		return err
	}
	w.checked++
	w.total += len(w.ops)
	w.start, w.ops = w.count, nil
	return nil
}

// linearizable asks porcupine.
func linearizable(start int64, ops []op) error {
	history := make([]porcupine.Operation, len(ops))
	readers := map[int64]int{}
	for i, o := range ops {
		history[i] = porcupine.Operation{ClientId: i, Input: o.hit, Call: o.call, Output: o.value, Return: o.ret}
		if !o.hit {
			readers[o.value]++
		}
	}
	result := porcupine.CheckOperationsTimeout(register(start, readers), history, time.Minute)
	if result != porcupine.Ok {
		return fmt.Errorf("porcupine: %d operations from the count %d on are not linearizable (%s)", len(ops), start, result)
	}
	return nil
}

// register counts from start on; a hit adds one and returns the new count.
//
// The count never comes back to a value, so a hit may only follow when all who
// read the present value have read it. Saying so in the model rules nothing out
// that could work, and spares porcupine an exponential search.
func register(start int64, readers map[int64]int) porcupine.Model {
	type state struct {
		count int64
		read  int // how many have read this count
	}
	return porcupine.Model{
		Init: func() any { return state{start, 0} },
		Step: func(in, isHit, output any) (bool, any) {
			s := in.(state)
			if !isHit.(bool) {
				return output.(int64) == s.count, state{s.count, s.read + 1}
			}
			return output.(int64) == s.count+1 && s.read == readers[s.count], state{s.count + 1, 0}
		},
	}
}
