package crashtest

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"sort"
)

// together looks for one order of all operations of a life that explains the reads
// of the sum: it respects real time, the order on each connection and the numbers
// of each counter, and every read of the sum stands behind as many hits as it shows.
// parts are the hits that counted and the reads of counters; before is the sum
// before them.
//
// Porcupine would try orders; with many counters there are too many. But the
// reads of the sum cut the order at known places: the one that shows n stands
// between the nth hit and the next. So each hit has a first and a last place,
// from the reads that must come before it and after it, and giving every hit a
// place of its own is scheduling jobs of one unit with release times and
// deadlines. There the earliest deadline first succeeds if anything does, and
// exchanging two hits that stand against the order keeps both in their bounds. So
// the check is exact.
func together(parts, sums []op, before int64) error {
	if len(sums) == 0 {
		return nil
	}
	ops := append(slices.Clip(parts), sums...)
	after := before
	for _, o := range ops {
		if o.hit {
			after++
		}
	}
	g := precedence(ops)
	order, ok := g.sorted()
	if !ok {
		return fmt.Errorf("real time, connections and numbers of %d operations contradict each other", len(ops))
	}
	first := make([]int64, len(g)) // the least sum that may be there before
	last := make([]int64, len(g))  // and the largest after
	for i := range g {
		first[i], last[i] = before, after
	}
	shown := func(node int32, bound int64) int64 {
		if int(node) < len(ops) && ops[node].of == theSum {
			return ops[node].value
		}
		return bound
	}
	for _, node := range order {
		for _, next := range g[node] {
			first[next] = max(first[next], first[node], shown(node, before))
		}
	}
	for _, node := range slices.Backward(order) {
		for _, next := range g[node] {
			last[node] = min(last[node], last[next], shown(next, after))
		}
	}
	var hits []place
	for i, o := range ops {
		switch {
		case o.of == theSum && (o.value < first[i] || o.value > last[i]):
			return fmt.Errorf("the sum must be %d to %d there: %v", first[i], last[i], o)
		case o.hit:
			hits = append(hits, place{o, first[i] + 1, last[i]})
		}
	}
	return schedule(hits, before)
}

// place is where in the order of all hits one may stand.
type place struct {
	op
	first, last int64
}

// schedule gives every hit a place of its own.
func schedule(hits []place, before int64) error {
	slices.SortFunc(hits, func(a, b place) int { return cmp.Compare(a.first, b.first) })
	var ready places
	for n := before + 1; len(hits)+len(ready) > 0; n++ {
		for len(hits) > 0 && hits[0].first <= n {
			heap.Push(&ready, hits[0])
			hits = hits[1:]
		}
		if len(ready) == 0 {
			return fmt.Errorf("a sum shows hit %d before it was sent: %v", n, hits[0].op)
		}
		if h := heap.Pop(&ready).(place); h.last < n {
			return fmt.Errorf("a sum of %d or more is missing a hit: %v", h.last, h.op)
		}
	}
	return nil
}

// places is a heap: the first must be given a place soonest.
type places []place

func (p places) Len() int           { return len(p) }
func (p places) Less(i, j int) bool { return p[i].last < p[j].last }
func (p places) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *places) Push(x any)        { *p = append(*p, x.(place)) }
func (p *places) Pop() any {
	last := len(*p) - 1
	x := (*p)[last]
	*p = (*p)[:last]
	return x
}

// graph says for each node which others come after it.
type graph [][]int32

func (g graph) edge(from, to int) { g[from] = append(g[from], int32(to)) }

// sorted returns the nodes in an order that the graph allows, if there is one.
func (g graph) sorted() (order []int32, ok bool) {
	waits := make([]int, len(g))
	for _, next := range g {
		for _, to := range next {
			waits[to]++
		}
	}
	for node, n := range waits {
		if n == 0 {
			order = append(order, int32(node))
		}
	}
	for i := 0; i < len(order); i++ {
		for _, to := range g[order[i]] {
			if waits[to]--; waits[to] == 0 {
				order = append(order, to)
			}
		}
	}
	return order, len(order) == len(g)
}

// precedence is what must come before what. Its first nodes are the operations,
// the others moments at which some were answered.
func precedence(ops []op) graph {
	var moments []int64
	for _, o := range ops {
		moments = append(moments, o.ret)
	}
	slices.Sort(moments)
	moments = slices.Compact(moments)
	g := make(graph, len(ops)+len(moments))
	for i, o := range ops {
		at, _ := slices.BinarySearch(moments, o.ret)
		g.edge(i, len(ops)+at)
		if sent, _ := slices.BinarySearch(moments, o.call); sent > 0 { // those before it are over
			g.edge(len(ops)+sent-1, i)
		}
	}
	for i := range moments[1:] {
		g.edge(len(ops)+i, len(ops)+i+1)
	}
	g.connections(ops)
	g.numbers(ops)
	return g
}

// connections adds the order on each connection. Of a hit that wasn't answered it
// is not known which it was.
func (g graph) connections(ops []op) {
	var answered []int
	for i, o := range ops {
		if o.conn != unanswered {
			answered = append(answered, i)
		}
	}
	sort.SliceStable(answered, func(i, j int) bool {
		a, b := ops[answered[i]], ops[answered[j]]
		return cmp.Or(cmp.Compare(a.conn, b.conn), cmp.Compare(a.nth, b.nth)) < 0
	})
	for i, to := range answered {
		if i > 0 && ops[answered[i-1]].conn == ops[to].conn {
			g.edge(answered[i-1], to)
		}
	}
}

// numbers adds the order of each counter's numbers.
func (g graph) numbers(ops []op) {
	var counted []int
	for i, o := range ops {
		if o.of != theSum {
			counted = append(counted, i)
		}
	}
	sort.SliceStable(counted, func(i, j int) bool {
		a, b := ops[counted[i]], ops[counted[j]]
		return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.value, b.value)) < 0 ||
			a.of == b.of && a.value == b.value && a.hit && !b.hit
	})
	hit, reads := -1, []int(nil) // the last hit of this counter, and the reads since
	for i, to := range counted {
		o := ops[to]
		if i > 0 && ops[counted[i-1]].of != o.of {
			hit, reads = -1, nil
		}
		if hit >= 0 {
			g.edge(hit, to)
		}
		if !o.hit {
			reads = append(reads, to)
			continue
		}
		for _, read := range reads {
			g.edge(read, to)
		}
		hit, reads = to, nil
	}
}
