package admin

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// probeTimeout is how long the store may take to answer before it counts as
	// down.
	probeTimeout = 2 * time.Second

	// probeFresh is how long an answer is good for.
	probeFresh = 500 * time.Millisecond
)

var errNoAnswer = errors.New("no answer within " + probeTimeout.String())

// probe asks the store whether it is there and takes hits. However many ask, one
// question is on its way at a time.
type probe struct {
	read  func(context.Context) (int64, error)
	ready func(context.Context) error // may be nil

	mu      sync.Mutex
	asking  chan struct{} // closed when the answer is there; nil: nothing on its way
	started time.Time
	last    answer
}

// answer is what the store said last. The zero answer is older than any.
type answer struct {
	total    int64
	readable bool  // reads are answered, whatever err says of hits
	err      error // why hits get 503; nil: they don't
	at       time.Time
	since    time.Time // when the trouble began; zero without an err
	overdue  bool      // it is none yet: the question is on its way for too long
}

func newProbe(o *Options) *probe { return &probe{read: o.Read, ready: o.Ready} }

// ask returns the store's count, and why hits would get 503, within probeTimeout.
// It doesn't wait for a question that is overdue already.
func (p *probe) ask(ctx context.Context) (int64, error) {
	done := p.start()
	if a := p.latest(); done == nil || a.overdue {
		return a.total, a.err
	}
	patience := time.NewTimer(probeTimeout)
	defer patience.Stop()
	select {
	case <-done:
		a := p.latest()
		return a.total, a.err
	case <-patience.C:
		return 0, errNoAnswer
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// start sends a question unless one is on its way or the last answer is fresh.
// It returns what is closed at the answer, or nil when there is a fresh one.
func (p *probe) start() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking != nil {
		return p.asking
	}
	if time.Since(p.last.at) < probeFresh {
		return nil
	}
	done := make(chan struct{})
	p.asking, p.started = done, time.Now()
	go func() {
		a := p.question()
		p.mu.Lock()
		a.since = p.troubleSince(a.err)
		p.last = a
		p.asking = nil
		p.mu.Unlock()
		close(done)
	}()
	return done
}

func (p *probe) question() answer {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	total, err := p.read(ctx)
	readable := err == nil
	if readable && p.ready != nil {
		err = p.ready(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errNoAnswer
	}
	return answer{total: total, readable: readable, err: err, at: time.Now()}
}

// troubleSince is when the trouble began of which err is the latest news: no
// later than the question that it answers.
func (p *probe) troubleSince(err error) time.Time {
	switch {
	case err == nil:
		return time.Time{}
	case p.last.err != nil:
		return p.last.since
	}
	return p.started
}

// latest returns the last answer without asking; a question that is overdue is
// an answer too.
func (p *probe) latest() answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking == nil || time.Since(p.started) <= probeTimeout {
		return p.last
	}
	return answer{total: p.last.total, err: errNoAnswer, at: time.Now(), since: p.troubleSince(errNoAnswer), overdue: true}
}
