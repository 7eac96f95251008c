package crashtest

import (
	"math"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

func hit(conn int, call, ret, value int64) op {
	return op{hit: true, conn: conn, call: call, ret: ret, value: value}
}
func read(conn int, call, ret, value int64) op {
	return op{conn: conn, call: call, ret: ret, value: value}
}
func cut(conn int, call int64) op { return op{hit: true, conn: conn, call: call, ret: never} }

// on makes it about another counter.
func (o op) on(of int) op { o.of = of; return o }

// The direct rule accepts what is right and names what is wrong.
func TestLedgerTellsRightFromWrong(t *testing.T) {
	tests := []struct {
		name  string
		lives [][]op
		count []int64 // after each life
		wrong string
	}{
		{"in order", [][]op{{hit(1, 1, 2, 1), hit(1, 3, 4, 2), read(1, 5, 6, 2)}}, []int64{2}, ""},
		{"overlapping, the other way round", [][]op{{hit(1, 1, 9, 2), hit(2, 2, 8, 1)}}, []int64{2}, ""},
		{"unknown, counted", [][]op{{cut(1, 1), hit(2, 2, 3, 2)}, {hit(1, 5, 6, 3)}}, []int64{2, 3}, ""},
		{"unknown, not counted", [][]op{{cut(1, 1), hit(2, 2, 3, 1)}, {hit(1, 5, 6, 2)}}, []int64{1, 2}, ""},
		{"twice", [][]op{{hit(1, 1, 9, 1), hit(2, 2, 8, 1)}}, []int64{2}, "twice"},
		{"twice over a restart", [][]op{{hit(1, 1, 2, 1)}, {hit(1, 3, 9, 2), hit(2, 4, 8, 2)}}, []int64{1, 3}, "twice"},
		{"zero", [][]op{{hit(1, 1, 2, 0)}}, []int64{1}, "real time"},
		{"lost in a crash", [][]op{{hit(1, 1, 2, 1), hit(1, 3, 4, 2)}}, []int64{1}, "2 was seen"},
		{"shown and lost", [][]op{{cut(1, 1), read(2, 2, 3, 1)}}, []int64{0}, "1 was seen"},
		{"more than sent", [][]op{{hit(1, 1, 2, 2)}}, []int64{2}, "1 hits that were sent"},
		{"more than sent by then", [][]op{{read(1, 1, 2, 1), hit(2, 3, 4, 2)}}, []int64{2}, "0 hits that were sent"},
		{"counts more than sent", [][]op{{hit(1, 1, 2, 1)}}, []int64{2}, "1 hits were sent"},
		{"hit against real time", [][]op{{hit(1, 1, 2, 2), cut(3, 1), hit(2, 3, 4, 1)}}, []int64{2}, "real time"},
		{"stale read", [][]op{{hit(1, 1, 2, 1), read(2, 3, 4, 0)}}, []int64{1}, "real time"},
		{"reads go down", [][]op{{hit(1, 1, 9, 1), read(2, 2, 3, 1), read(3, 4, 5, 0)}}, []int64{1}, "real time"},
		{"read, then a hit below", [][]op{{cut(1, 1), read(2, 2, 3, 1), hit(3, 4, 5, 1)}}, []int64{1}, "real time"},
		{"pipelined the wrong way round", [][]op{{hit(1, 1, 5, 2), hit(1, 1, 6, 1)}}, []int64{2}, "one connection"},
		{"pipelined read too low", [][]op{{hit(1, 1, 5, 1), read(1, 1, 6, 0)}}, []int64{1}, "one connection"},
		{"first number after a crash seen before", [][]op{{cut(1, 1), read(2, 2, 3, 1)}, {hit(1, 5, 6, 1)}}, []int64{1, 1}, "real time"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var l ledger
			var err error
			for i, ops := range test.lives {
				if err = l.life(ops); err != nil {
					break
				}
				if err = l.settled(test.count[i]); err != nil {
					break
				}
			}
			if test.wrong == "" && err != nil {
				t.Errorf("a right history was refused: %v", err)
			}
			if test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("error %v; want one with %q", err, test.wrong)
			}
		})
	}
}

// A read of the sum is held against all counters.
func TestSumIsHeldAgainstAllCounters(t *testing.T) {
	sum := func(conn int, call, ret, value int64) op { return read(conn, call, ret, value).on(theSum) }
	// Requests of one connection, sent at once, with answers in their order.
	pipelined := func(ops ...op) []op {
		for i := range ops {
			ops[i].conn, ops[i].nth, ops[i].call, ops[i].ret = 9, i, 1, int64(10+i)
		}
		return ops
	}
	tests := []struct {
		name  string
		ops   []op
		right bool
	}{
		{"in order", []op{hit(1, 1, 2, 1), hit(1, 3, 4, 1).on(1), sum(1, 5, 6, 2)}, true},
		{"one is missing", []op{hit(1, 1, 2, 1), hit(1, 3, 4, 1).on(1), sum(2, 5, 6, 1)}, false},
		{"one too many", []op{hit(1, 1, 2, 1), sum(2, 3, 4, 2), hit(1, 5, 6, 1).on(1)}, false},
		{"one under way is there", []op{hit(1, 1, 9, 1), sum(2, 3, 4, 1)}, true},
		{"one under way is not", []op{hit(1, 1, 9, 1), sum(2, 3, 4, 0)}, true},
		{"it goes down", []op{hit(1, 1, 9, 1), sum(2, 2, 3, 1), sum(3, 4, 5, 0)}, false},
		{"a pipeline at its place", pipelined(hit(0, 0, 0, 1), sum(0, 0, 0, 1), hit(0, 0, 0, 1).on(1), sum(0, 0, 0, 2)), true},
		{"a pipeline as a whole", pipelined(hit(0, 0, 0, 1), sum(0, 0, 0, 2), hit(0, 0, 0, 1).on(1), sum(0, 0, 0, 2)), false},
		{"the number tells that another came first", []op{hit(1, 1, 9, 2), cut(2, 1), sum(3, 2, 3, 0), read(4, 4, 5, 2), sum(5, 6, 7, 1)}, false},
		{"a read of a counter holds the sum up", []op{hit(1, 1, 9, 1), read(2, 2, 3, 1), sum(3, 4, 5, 0)}, false},
		{"two places for three", []op{hit(1, 1, 9, 1), hit(2, 4, 9, 1).on(1), hit(3, 4, 9, 2).on(1), sum(4, 2, 3, 1), sum(4, 10, 11, 3), sum(5, 5, 6, 0)}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBooks([]string{"/a", "/b"})
			counts, total := make([]int64, 2), int64(0)
			for _, o := range test.ops {
				if o.hit {
					counts[o.of]++
					total++
				}
			}
			err := b.life(test.ops)
			if err != nil {
				t.Fatal(err)
			}
			if err = b.settled(counts, total); (err == nil) != test.right {
				t.Errorf("error %v", err)
			}
		})
	}
	b := newBooks([]string{"/a", "/b"})
	if err := b.life([]op{hit(1, 1, 2, 1), hit(1, 3, 4, 1).on(1)}); err != nil {
		t.Fatal(err)
	}
	if err := b.settled([]int64{1, 1}, 3); err == nil {
		t.Error("a sum that isn't that of its parts was taken")
	}
}

// mostCounters are in a drawn history.
const mostCounters = 3

// counts are those of its counters.
type counts [mostCounters]int64

func (c counts) sum() (sum int64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

// drawHistory makes a small history of so many counters that is right, or nearly.
func drawHistory(t *rapid.T, counters int) (ops []op, c counts) {
	n := rapid.IntRange(1, 7).Draw(t, "ops")
	for i := range n {
		at := int64(10 * (i + 1)) // when it takes effect
		spread := func(name string) int64 { return int64(rapid.IntRange(1, 35).Draw(t, name)) }
		o := op{hit: rapid.IntRange(0, 3).Draw(t, "kind") > 0, conn: i, call: at - spread("before"), ret: at + spread("after")}
		o.of = rapid.IntRange(0, counters-1).Draw(t, "of")
		if !o.hit && counters > 1 && rapid.IntRange(0, 3).Draw(t, "sum") > 0 {
			o.of = theSum
		}
		counted := o.hit
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			counted = counted && rapid.Bool().Draw(t, "counted")
			o.ret = never
		}
		if counted {
			c[o.of]++
		}
		if o.ret != never {
			o.value = c.shown(o.of)
			if rapid.IntRange(0, 14).Draw(t, "wrong") == 0 {
				o.value += int64(rapid.IntRange(-1, 1).Draw(t, "by"))
			}
		}
		ops = append(ops, o)
	}
	return ops, c
}

func (c counts) shown(of int) int64 {
	if of == theSum {
		return c.sum()
	}
	return c[of]
}

// Giving unknown hits their numbers before the check, looking at each counter by
// itself and at the sum by its own rule must not change the verdict: porcupine, left
// alone with all counters at once and hits that may take effect at any time or
// never, says the same.
func TestVerdictIsExact(t *testing.T) {
	for counters := 1; counters <= mostCounters; counters++ {
		right, wrong := 0, 0
		rapid.Check(t, func(t *rapid.T) {
			ops, c := drawHistory(t, counters)
			b := newBooks(make([]string, counters))
			err := b.life(ops)
			if err == nil {
				err = b.settled(c[:counters], c.sum())
			}
			if err == nil {
				err = b.flush()
			}
			want := freelyLinearizable(ops, c)
			if want != (err == nil) {
				t.Fatalf("the checkers say %v, porcupine alone %v:\n%v\nthen the counts %v", err, want, ops, c)
			}
			if want {
				right++
			} else {
				wrong++
			}
		})
		t.Logf("%d counters: %d histories were right, %d wrong", counters, right, wrong)
		if min(right, wrong) < 10 {
			t.Error("that is too few of one kind")
		}
	}
}

// freelyLinearizable lets porcupine find out what became of unknown hits. One
// that never counts takes effect after everything else. At the end the counts are
// c.
func freelyLinearizable(ops []op, c counts) bool {
	model := porcupine.Model{
		Init: func() any { return counts{} },
		Step: func(state, input, output any) (bool, any) {
			c, o := state.(counts), input.(op)
			if o.hit {
				c[o.of]++
			}
			return o.ret == never || o.value == c.shown(o.of), c
		},
	}
	end := int64(0)
	for _, o := range ops {
		end = max(end, o.call+1)
		if o.ret != never {
			end = max(end, o.ret+1)
		}
	}
	for of, n := range c {
		ops = append(ops, op{of: of, call: end + 1, ret: end + 2, value: n})
	}
	var history []porcupine.Operation
	for i, o := range ops {
		history = append(history, porcupine.Operation{ClientId: i, Input: o, Call: o.call, Return: min(o.ret, math.MaxInt64/2)})
	}
	return porcupine.CheckOperations(model, history)
}

// The direct rule never refuses what is linearizable.
func TestLedgerAcceptsWhatIsLinearizable(t *testing.T) {
	accepted, both := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		ops, c := drawHistory(t, 1)
		var l ledger
		err := l.life(ops)
		if err == nil {
			err = l.settled(c[0])
		}
		exact := freelyLinearizable(ops, c)
		if exact && err != nil {
			t.Fatalf("linearizable, but refused: %v\n%v", err, ops)
		}
		if err == nil {
			accepted++
			if exact {
				both++
			}
		}
	})
	t.Logf("%d accepted by the direct rule, %d of them linearizable", accepted, both)
	if both < 10 {
		t.Error("that is too few")
	}
}
