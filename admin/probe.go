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

// probe asks the store whether it is there. However many ask, one question is on
// its way at a time.
type probe struct {
	read func(context.Context) (int64, error)

	mu      sync.Mutex
	asking  chan struct{} // closed when the answer is there; nil: nothing on its way
	started time.Time
	last    answer
}

// answer is what the store said last. The zero answer is older than any.
type answer struct {
	total int64
	err   error
	at    time.Time
}

func newProbe(read func(context.Context) (int64, error)) *probe { return &probe{read: read} }

// ask returns the store's count, or why there is none, within probeTimeout.
func (p *probe) ask(ctx context.Context) (int64, error) {
	done := p.start()
	if done == nil {
		a := p.latest()
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
		ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
		defer cancel()
		total, err := p.read(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = errNoAnswer
		}
		p.mu.Lock()
		p.last = answer{total: total, err: err, at: time.Now()}
		p.asking = nil
		p.mu.Unlock()
		close(done)
	}()
	return done
}

// latest returns the last answer without asking; a question that is overdue is
// an answer too.
func (p *probe) latest() answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking != nil && time.Since(p.started) > probeTimeout {
		return answer{err: errNoAnswer, at: time.Now()}
	}
	return p.last
}
