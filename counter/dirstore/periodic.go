package dirstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/counterd/counterd/counter"
)

// ErrOverdue says that the hits haven't been synced for so long that nothing more is
// counted until they are.
var ErrOverdue = errors.New("the store hasn't been synced for too long")

const (
	minOverdue = 5 * time.Second

	// What has changed is written in records of so many counters, and at once where
	// so many have changed: the lock is held for short, and memory is bounded.
	changesInRecord = 2048
	manyChanges     = 64 << 10
)

// Periodic counts in memory and writes what has changed at least every Options.Sync.
// A crash takes back what was counted since the last write and sync. It is a
// counter.InstantStore and a counter.Lister.
type Periodic struct {
	*core
	*counter.TableLister
	interval time.Duration
	observe  func(int64, int, time.Duration, error)

	// What the log doesn't know yet, in the order of the first change since it knew:
	// the counter and what the log knows of it. Its mark says that it is in the list
	// from head on. All of this is used under mu.
	changes []change
	head    int
	marks   []uint64
	reason  error // why nothing more is counted
	failure error // why the last write didn't do everything
	overdue error // why nothing is counted now
	watched *time.Timer

	dirtied chan struct{} // a token when there is a change after there was none
	crowded chan struct{} // a token when there are many
	lost    chan struct{}
	stop    chan struct{}
	stopped chan struct{} // run returned
}

// OpenPeriodic is Open for a store that counts in memory and writes every
// Options.Sync.
func OpenPeriodic(path string, o Options) (*Periodic, error) {
	c, err := openSystem(path, o)
	if err != nil {
		return nil, err
	}
	return newPeriodic(c), nil
}

func newPeriodic(c *core) *Periodic {
	p := makePeriodic(c)
	c.begin()
	go p.run()
	return p
}

func makePeriodic(c *core) *Periodic {
	p := &Periodic{
		core:        c,
		TableLister: c.table.Lister(&c.mu),
		interval:    c.opts.Sync,
		observe:     c.opts.Observe,
		dirtied:     make(chan struct{}, 1),
		crowded:     make(chan struct{}, 1),
		lost:        make(chan struct{}),
		stop:        make(chan struct{}),
		stopped:     make(chan struct{}),
	}
	c.undo = p.undo
	return p
}

// Lock is held by who calls AddNow. Listing and writing take the lock for
// microseconds at a time.
func (p *Periodic) Lock() { p.mu.Lock() }

// Unlock lets others call AddNow.
func (p *Periodic) Unlock() { p.mu.Unlock() }

// AddNow adds hits to the counter of that name and returns its count, and the sum of
// all, which are in memory only. With hits = 0 it reads. It is called between Lock
// and Unlock. It fails with counter.ErrTooMany, counter.ErrFull, ErrOverdue (hits > 0
// only), counter.ErrLost or counter.ErrClosed; nothing was counted then. What it
// returns is good with any error.
func (p *Periodic) AddNow(name []byte, hits int64) (total, sum int64, err error) {
	t := p.table
	i, known := t.Find(name)
	if known {
		total = t.Count(i)
	}
	sum = t.Sum()
	switch {
	case p.reason != nil:
		return total, sum, p.reason
	case hits == 0:
		return total, sum, nil
	case hits > math.MaxInt64-sum:
		return total, sum, counter.ErrFull
	case p.overdue != nil:
		return total, sum, p.overdue
	}
	if !known {
		if i, err = t.Make(name); err != nil {
			return total, sum, err
		}
	}
	_ = t.Put(i, total+hits) // the sum has room
	p.mark(i, total)
	return total + hits, sum + hits, nil
}

// mark notes that counter i has changed, and had that count when the log knew it.
func (p *Periodic) mark(i int, count int64) {
	for i/64 >= len(p.marks) {
		p.marks = append(p.marks, 0)
	}
	if p.marks[i/64]&(1<<(i%64)) != 0 {
		return
	}
	p.marks[i/64] |= 1 << (i % 64)
	p.changes = append(p.changes, change{i, count})
	switch len(p.changes) - p.head {
	case 1:
		token(p.dirtied)
	case manyChanges:
		token(p.crowded)
	}
}

func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// undo takes back in counts, which were copied while the log stands still, what the
// log doesn't know.
func (p *Periodic) undo(counts []int64) {
	for from := 0; ; from += changesInRecord {
		p.mu.Lock()
		list := p.changes[min(p.head+from, len(p.changes)):]
		for _, c := range list[:min(changesInRecord, len(list))] {
			if c.number < len(counts) {
				counts[c.number] = c.count
			}
		}
		p.mu.Unlock()
		if len(list) <= changesInRecord {
			return
		}
	}
}

// run writes. The first hit after a pause is written at once, the next ones after
// the interval, or when they have changed many counters.
func (p *Periodic) run() {
	defer close(p.stopped)
	pause := time.NewTimer(p.interval)
	defer pause.Stop()
	for {
		select {
		case <-p.dirtied:
		case <-p.stop:
			return
		}
		for again := true; again; {
			pause.Reset(p.interval)
			err := p.save()
			if errors.Is(err, counter.ErrLost) {
				p.seal(err)
				close(p.lost)
				return
			}
			again = err != nil || p.left() > 0 // the log is full, or there were hits meanwhile
			select {
			case <-pause.C:
			case <-p.crowded:
			case <-p.stop:
				return
			}
		}
	}
}

// left is how many changes the log doesn't know.
func (p *Periodic) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.changes) - p.head
}

// save makes what has changed until now durable.
func (p *Periodic) save() error {
	left := p.left()
	if left == 0 {
		return nil
	}
	p.watch()
	for left > 0 {
		start := time.Now()
		n, hits, err := p.write(left)
		if p.observe != nil {
			p.observe(hits, 1, time.Since(start), err)
		}
		if err != nil {
			p.late(err)
			return err
		}
		left -= n
	}
	p.inTime()
	return nil
}

// write writes a record of the first changes, of at most so many, and returns how
// many they were.
func (p *Periodic) write(most int) (n int, hits int64, err error) {
	p.commit.Lock()
	defer p.commit.Unlock()
	if p.err != nil {
		return 0, 0, p.err
	}
	n, size := p.portion(min(most, changesInRecord))
	to, err := p.room(context.Background(), size)
	if err != nil {
		return 0, 0, err
	}
	hits = p.make(n)
	return n, hits, p.append(to, hits)
}

// portion is how many of the first changes go into one record, and how long that is
// at most.
func (p *Periodic) portion(most int) (n int, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size = recordHeader
	for ; n < most; n++ {
		i := p.changes[p.head+n].number
		more := bytesOf(p.table.Name(i), i < p.logged)
		if n > 0 && size+more > maxBody {
			break
		}
		size += more
	}
	return n, size
}

// make makes the record of the first n changes, which are none then.
func (p *Periodic) make(n int) (hits int64) {
	p.log.begin()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.changes[p.head : p.head+n] {
		count := p.table.Count(c.number)
		p.put(c.number, count)
		hits += count - c.count
		p.marks[c.number/64] &^= 1 << (c.number % 64)
	}
	if p.head += n; p.head > len(p.changes)/2 {
		p.changes = append(p.changes[:0], p.changes[p.head:]...)
		p.head = 0
	}
	return hits
}

// watch lets hits be refused if what has changed isn't durable in time. Up to one
// interval has gone by since the first change.
func (p *Periodic) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watched != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(max(10*p.interval, minOverdue)-p.interval, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.watched == timer {
			p.beOverdue()
		}
	})
	p.watched = timer
}

func (p *Periodic) beOverdue() {
	p.overdue = ErrOverdue
	if p.failure != nil {
		p.overdue = fmt.Errorf("%w: %w", ErrOverdue, p.failure)
	}
}

// late notes why what has changed isn't durable.
func (p *Periodic) late(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = err
	if p.overdue != nil {
		p.beOverdue()
	}
}

// inTime lets hits be counted again.
func (p *Periodic) inTime() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched.Stop()
	p.watched, p.failure, p.overdue = nil, nil, nil
}

// seal ends the counting.
func (p *Periodic) seal(reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason == nil {
		p.reason = reason
	}
}

// Failing is why a hit would fail now, while reads are answered; nil: it wouldn't. It
// locks the store by itself.
func (p *Periodic) Failing() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason != nil {
		return p.reason
	}
	return p.overdue
}

// Lost returns a channel that is closed when the store is lost. AddNow then says
// why.
func (p *Periodic) Lost() <-chan struct{} { return p.lost }

// Close ends the counting, writes what isn't durable yet, and closes the store. It
// must be called once.
func (p *Periodic) Close() error {
	p.seal(counter.ErrClosed)
	close(p.stop)
	<-p.stopped
	p.commit.Lock()
	err := p.err
	p.commit.Unlock()
	if err == nil {
		err = p.save()
	}
	p.mu.Lock()
	if p.watched != nil {
		p.watched.Stop()
	}
	p.mu.Unlock()
	closeErr := p.close()
	if err != nil {
		return fmt.Errorf("not all hits were written: %w", err)
	}
	return closeErr
}
