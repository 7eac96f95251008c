package crashtest

import "fmt"

// books are what is known of all counters of a run, and of their sum. A server
// with one counter is the case of one.
type books struct {
	names    []string // of the counters; one that is empty: the only counter of its server
	accounts []account
	sums     []op  // reads of the sum in the last life
	sum      int64 // before it
	read     int64 // reads of the sum, in all
	end      int64 // when it was over
}

// account is what is known of one counter.
type account struct {
	ledger
	windows
	pending []op // of the last life, until the count after it is known
}

func newBooks(names []string) books {
	return books{names: names, accounts: make([]account, len(names))}
}

// life takes the operations of one life, of which nothing goes on after it.
func (b *books) life(ops []op) error {
	for _, o := range ops {
		if o.of != theSum {
			a := &b.accounts[o.of]
			a.pending = append(a.pending, o)
		} else if o.ret != never {
			b.sums = append(b.sums, o)
		}
		b.end = max(b.end, o.call+1)
		if o.ret != never {
			b.end = max(b.end, o.ret+1)
		}
	}
	for i := range b.accounts {
		a := &b.accounts[i]
		if err := a.ledger.life(a.pending); err != nil {
			return b.on(i, err)
		}
	}
	return nil
}

// settled takes the counts between two lives, when nothing is on its way.
func (b *books) settled(counts []int64, sum int64) error {
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	if total != sum {
		return fmt.Errorf("the sum is %d, and its parts make %d", sum, total)
	}
	var known []op
	for i := range b.accounts {
		a := &b.accounts[i]
		if err := a.ledger.settled(counts[i]); err != nil {
			return b.on(i, err)
		}
		if len(a.pending) == 0 && counts[i] == a.count {
			continue
		}
		ops, err := resolve(a.pending, a.count, counts[i], b.end)
		if err != nil {
			return b.on(i, err)
		}
		known = append(known, ops...)
		if err := a.windows.life(ops, counts[i], b.end); err != nil {
			return b.on(i, err)
		}
		a.pending = nil
	}
	if err := together(known, b.sums, b.sum); err != nil {
		return err
	}
	b.read += int64(len(b.sums))
	b.sums, b.sum = nil, sum
	b.end += 2 // the counts were read meanwhile
	return nil
}

// on says which counter an error is about.
func (b *books) on(i int, err error) error {
	if b.names[i] == "" {
		return err
	}
	return fmt.Errorf("counter %.40q: %w", b.names[i], err)
}

// flush has porcupine check what was collected.
func (b *books) flush() error {
	for i := range b.accounts {
		a := &b.accounts[i]
		if n := a.given.len(); int64(n) != a.answered {
			return b.on(i, fmt.Errorf("%d hits were answered with %d different numbers", a.answered, n))
		}
		if err := a.flush(); err != nil {
			return b.on(i, err)
		}
	}
	return nil
}

// totals are those of all counters.
type totals struct {
	answered, sent, counted, reads, sums int64
	windows, operations, skipped         int
}

func (b *books) totals() totals {
	t := totals{sums: b.read, counted: b.sum}
	for i := range b.accounts {
		a := &b.accounts[i]
		t.answered += a.answered
		t.sent += a.sent
		t.reads += a.ledger.reads
		t.windows += a.checked
		t.operations += a.total
		t.skipped += a.skipped
	}
	return t
}

func (t totals) String() string {
	return fmt.Sprintf("%d hits answered and %d reads checked, %d reads of the sum; %d hits sent, %d counted; %d windows of %d operations by porcupine, %d lives too long for it",
		t.answered, t.reads, t.sums, t.sent, t.counted, t.windows, t.operations, t.skipped)
}
