package filestore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/counterd/counterd/counter"
)

// ErrOverdue says that the disk hasn't finished a sync for so long that nothing
// more is counted until it does.
var ErrOverdue = errors.New("the store hasn't been synced for too long")

const minOverdue = 5 * time.Second

// Periodic counts in memory and writes the count to its file at least every
// Options.Sync while it changes. A crash takes back what was counted since the
// last write and sync. It is a counter.InstantStore.
type Periodic struct {
	store    *Store
	interval time.Duration
	observe  func(int64, int, time.Duration, error)

	// The total; the sign bit says that nothing more is counted. One word, so that
	// no hit can slip in between the last write and the end.
	total   atomic.Int64
	dirty   atomic.Bool
	overdue atomic.Bool

	dirtied chan struct{} // a token when dirty became true
	closing chan struct{}
	ended   chan struct{} // run returned
	failed  chan struct{} // closed when the store is lost

	sealing sync.Once
	reason  error // why the total is sealed; written before
}

const sealed = math.MinInt64

func newPeriodic(s *Store, o Options) *Periodic {
	p := &Periodic{
		store:    s,
		interval: o.Sync,
		observe:  o.Observe,
		dirtied:  make(chan struct{}, 1),
		closing:  make(chan struct{}),
		ended:    make(chan struct{}),
		failed:   make(chan struct{}),
	}
	p.total.Store(s.last.value)
	go p.run()
	return p
}

// AddNow adds n and returns the new total, which is in memory only. It fails
// with counter.ErrFull, ErrOverdue (n > 0 only), counter.ErrLost or
// counter.ErrClosed; nothing was counted then. The total is good with any error.
func (p *Periodic) AddNow(n int64) (int64, error) {
	for {
		old := p.total.Load()
		if old < 0 {
			return old &^ sealed, p.reason
		}
		if n == 0 {
			return old, nil
		}
		if n > math.MaxInt64-old {
			return old, counter.ErrFull
		}
		if p.overdue.Load() {
			return old, ErrOverdue
		}
		if p.total.CompareAndSwap(old, old+n) {
			p.mark()
			return old + n, nil
		}
	}
}

// Add is AddNow.
func (p *Periodic) Add(_ context.Context, n int64) (int64, error) { return p.AddNow(n) }

// mark tells run that there is something to write.
func (p *Periodic) mark() {
	if p.dirty.Load() || !p.dirty.CompareAndSwap(false, true) {
		return
	}
	select {
	case p.dirtied <- struct{}{}:
	default: // only after Close, which has seen the hit
	}
}

// run writes. The first hit after a pause is written at once, the next ones
// after the interval.
func (p *Periodic) run() {
	defer close(p.ended)
	pause := time.NewTimer(p.interval)
	defer pause.Stop()
	for {
		select {
		case <-p.dirtied:
		case <-p.closing:
			return
		}
		pause.Reset(p.interval)
		if err := p.save(); err != nil {
			p.seal(err)
			close(p.failed)
			return
		}
		select {
		case <-pause.C:
		case <-p.closing:
			return
		}
	}
}

// save makes the present total durable.
func (p *Periodic) save() error {
	p.dirty.Store(false) // before the total is read: a hit from here on marks it again
	hits := p.total.Load()&^sealed - p.store.last.value
	if hits == 0 {
		return nil
	}
	defer p.watch()()
	start := time.Now()
	_, err := p.store.Add(context.Background(), hits)
	if p.observe != nil {
		p.observe(hits, 1, time.Since(start), err)
	}
	return err
}

// watch sets overdue if stop isn't called in time; stop clears it.
func (p *Periodic) watch() (stop func()) {
	var mu sync.Mutex
	over := false
	// Up to one interval has gone by since the first hit that isn't durable.
	timer := time.AfterFunc(max(10*p.interval, minOverdue)-p.interval, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			p.overdue.Store(true)
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		p.overdue.Store(false)
	}
}

// seal ends the counting.
func (p *Periodic) seal(reason error) {
	p.sealing.Do(func() {
		p.reason = reason
		p.total.Or(sealed)
	})
}

// Failed returns a channel that is closed when the store is lost.
func (p *Periodic) Failed() <-chan struct{} { return p.failed }

// Close ends the counting, writes what isn't durable yet, and closes the file.
// It must be called once.
func (p *Periodic) Close() error {
	p.seal(counter.ErrClosed)
	close(p.closing)
	<-p.ended
	err := p.store.err
	if err == nil {
		err = p.save()
	}
	closeErr := p.store.Close()
	if err != nil {
		return fmt.Errorf("not all hits were written: %w", err)
	}
	return closeErr
}
