package crashtest

import (
	"math"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

func hit(conn int, call, ret, value int64) op  { return op{true, conn, call, ret, value} }
func read(conn int, call, ret, value int64) op { return op{false, conn, call, ret, value} }
func cut(conn int, call int64) op              { return op{true, conn, call, never, 0} }

// The direct rule accepts what is right and names what is wrong.
func TestLedger(t *testing.T) {
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

// drawHistory makes a small history that is right, or nearly.
func drawHistory(t *rapid.T) (ops []op, count int64) {
	n := rapid.IntRange(1, 7).Draw(t, "ops")
	for i := range n {
		at := int64(10 * (i + 1)) // when it takes effect
		spread := func(name string) int64 { return int64(rapid.IntRange(1, 35).Draw(t, name)) }
		o := op{hit: rapid.IntRange(0, 3).Draw(t, "kind") > 0, conn: i, call: at - spread("before"), ret: at + spread("after")}
		counts := o.hit
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			counts = counts && rapid.Bool().Draw(t, "counted")
			o.ret = never
		}
		if counts {
			count++
		}
		if o.ret != never {
			o.value = count
			if rapid.IntRange(0, 14).Draw(t, "wrong") == 0 {
				o.value += int64(rapid.IntRange(-1, 1).Draw(t, "by"))
			}
		}
		ops = append(ops, o)
	}
	return ops, count
}

// Giving unknown hits their numbers before the check must not change the
// verdict: porcupine, left alone with hits that may take effect at any time or
// never, says the same.
func TestResolveIsExact(t *testing.T) {
	right, wrong := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		ops, count := drawHistory(t)
		end := int64(0)
		for _, o := range ops {
			end = max(end, o.call+1)
			if o.ret != never {
				end = max(end, o.ret+1)
			}
		}
		last := read(-1, end+1, end+2, count)

		known, err := resolve(ops, 0, count, end)
		got := err == nil && linearizable(0, append(known, last)) == nil
		want := freelyLinearizable(append(ops[:len(ops):len(ops)], last))
		if got != want {
			t.Fatalf("the checker says %v (%v), porcupine alone %v:\n%v\nthen the count %d", got, err, want, ops, count)
		}
		if want {
			right++
		} else {
			wrong++
		}
	})
	t.Logf("%d histories were right, %d wrong", right, wrong)
}

// freelyLinearizable lets porcupine find out what became of unknown hits. One
// that never counts takes effect after everything else.
func freelyLinearizable(ops []op) bool {
	model := porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, input, output any) (bool, any) {
			count, o := state.(int64), input.(op)
			if o.hit {
				count++
			}
			return o.ret == never || o.value == count, count
		},
	}
	var history []porcupine.Operation
	for i, o := range ops {
		history = append(history, porcupine.Operation{ClientId: i, Input: o, Call: o.call, Output: nil, Return: min(o.ret, math.MaxInt64/2)})
	}
	return porcupine.CheckOperations(model, history)
}

// The direct rule never refuses what is linearizable.
func TestLedgerAcceptsWhatIsLinearizable(t *testing.T) {
	accepted, both := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		ops, count := drawHistory(t)
		var l ledger
		err := l.life(ops)
		if err == nil {
			err = l.settled(count)
		}
		var w windows
		exact := w.life(ops, count)
		if exact == nil {
			exact = w.flush()
		}
		if exact == nil && err != nil {
			t.Fatalf("linearizable, but refused: %v\n%v", err, ops)
		}
		if err == nil {
			accepted++
			if exact == nil {
				both++
			}
		}
	})
	t.Logf("%d accepted by the direct rule, %d of them linearizable", accepted, both)
}
