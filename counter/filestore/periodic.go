package filestore

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/counterd/counterd/counter"
)

// ErrOverdue says that the disk hasn't finished a sync for so long that nothing
// more is counted until it does.
var ErrOverdue = errors.New("the store hasn't been synced for too long")

const minOverdue = 5 * time.Second

// Options configure a Periodic.
type Options struct {
	// Sync is how often it writes and syncs while the count changes, > 0.
	Sync time.Duration

	// Observe, if not nil, is called after each write and sync: how many hits it
	// made durable, how long it took, and its error. The batches are not known
	// here and always 1, so that it fits counter.Options.Observe.
	Observe func(hits int64, batches int, took time.Duration, err error)
}

// Periodic counts in memory and writes the count to its file at least every
// Options.Sync while it changes. A crash takes back what was counted since the
// last write and sync. It is a counter.InstantStore.
type Periodic struct {
	store *Store
	opts  Options

	sync.Mutex
	total   int64
	dirty   bool  // run has, or will get, a token
	overdue bool  // nothing is counted until a sync is done
	ended   error // why nothing is counted any more

	dirtied chan struct{} // a token when dirty became true
	closing chan struct{}
	stopped chan struct{} // run returned
	lost    chan struct{}
}

// OpenPeriodic is Open for a Periodic.
func OpenPeriodic(path string, o Options) (*Periodic, error) {
	s, err := Open(path)
	if err != nil {
		return nil, err
	}
	return newPeriodic(s, o), nil
}

func newPeriodic(s *Store, o Options) *Periodic {
	p := &Periodic{
		store:   s,
		opts:    o,
		total:   s.last.value,
		dirtied: make(chan struct{}, 1),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		lost:    make(chan struct{}),
	}
	go p.run()
	return p
}

// AddNow adds hits and returns the new total, which is in memory only. It fails
// with counter.ErrFull, ErrOverdue (hits > 0 only), counter.ErrLost or
// counter.ErrClosed.
func (p *Periodic) AddNow(_ []byte, hits int64) (total, sum int64, err error) {
	switch {
	case p.ended != nil:
		err = p.ended
	case hits == 0:
	case hits > math.MaxInt64-p.total:
		err = counter.ErrFull
	case p.overdue:
		err = ErrOverdue
	default:
		p.total += hits
		if !p.dirty {
			p.dirty = true
			p.dirtied <- struct{}{}
		}
	}
	return p.total, p.total, err
}

// run writes. The first hit after a pause is written at once, the next ones
// after the interval.
func (p *Periodic) run() {
	defer close(p.stopped)
	pause := time.NewTimer(p.opts.Sync)
	defer pause.Stop()
	for {
		select {
		case <-p.dirtied:
		case <-p.closing:
			return
		}
		pause.Reset(p.opts.Sync)
		if err := p.save(); err != nil {
			p.end(err)
			close(p.lost)
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
	p.Lock()
	p.dirty = false
	hits := p.total - p.store.last.value
	p.Unlock()
	if hits == 0 {
		return nil
	}
	defer p.watch()()
	start := time.Now()
	_, err := p.store.add(hits)
	if p.opts.Observe != nil {
		p.opts.Observe(hits, 1, time.Since(start), err)
	}
	return err
}

// watch sets overdue if stop isn't called in time; stop clears it.
func (p *Periodic) watch() (stop func()) {
	over := false
	// Up to one interval has gone by since the first hit that isn't durable.
	timer := time.AfterFunc(max(10*p.opts.Sync, minOverdue)-p.opts.Sync, func() {
		p.Lock()
		defer p.Unlock()
		p.overdue = !over
	})
	return func() {
		timer.Stop()
		p.Lock()
		defer p.Unlock()
		over, p.overdue = true, false
	}
}

// end ends the counting.
func (p *Periodic) end(reason error) {
	p.Lock()
	defer p.Unlock()
	if p.ended == nil {
		p.ended = reason
	}
}

// Failing is why a hit would fail now, while reads are answered; nil: it wouldn't.
func (p *Periodic) Failing() error {
	p.Lock()
	defer p.Unlock()
	if p.ended == nil && p.overdue {
		return ErrOverdue
	}
	return p.ended
}

// Lost returns a channel that is closed when the store is lost.
func (p *Periodic) Lost() <-chan struct{} { return p.lost }

// Close ends the counting, writes what isn't durable yet, and closes the file.
// It must be called once.
func (p *Periodic) Close() error {
	p.end(counter.ErrClosed)
	close(p.closing)
	<-p.stopped
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
