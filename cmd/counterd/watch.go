package main

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/counterd/counterd/counter"
)

// look is how often a running server looks at itself.
const look = time.Second

// watch looks at the server until ctx ends.
func (s *service) watch(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	hits := refusals{log: s.log, why: s.why}
	var tooMany uint64
	var memory attack
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			st := s.engine.Stats()
			s.crowded(st.TooMany - tooMany)
			tooMany = st.TooMany
			hits.look(ctx, st.Unavailable, s.refusing())
			if memory.over(st.Open) {
				// A pool is empty only after the second collection.
				runtime.GC()
				debug.FreeOSMemory()
			}
		}
	}
}

// why returns the reason why a hit would get 503 now; nil: it would be counted, as
// far as can be known without a hit.
func (s *service) why(ctx context.Context) error {
	if _, err := s.counter.ReadSum(ctx); err != nil {
		return err
	}
	return s.refusing()
}

// refusing is why hits get 503 though reads are answered. It asks nobody outside the
// process.
func (s *service) refusing() error {
	if f, ok := s.store.store.(failing); ok {
		if err := f.Failing(); err != nil {
			return err
		}
	}
	if s.counter.Total() == math.MaxInt64 {
		return counter.ErrFull
	}
	return nil
}

// crowded says in the log that hits got 507 since it was looked at last. Their paths
// are a stranger's words and stay out of it.
func (s *service) crowded(answers uint64) {
	if answers == 0 {
		return
	}
	n, most := s.lister().Names()
	s.log.Warn("no room for more counters, new paths get 507; raise --max-counters or forget some with counterd store drop",
		"answers", answers, "counters", n, "max", most)
}

// refusals says in the log when hits begin to get 503, and when that is over.
type refusals struct {
	log *slog.Logger
	why func(context.Context) error

	trouble bool
	before  uint64 // answered 503 when it was looked at last
	began   uint64 // and when the trouble began
}

// look is told how many were answered 503 so far, and why hits would be now if that
// is known.
func (r *refusals) look(ctx context.Context, unavailable uint64, known error) {
	more := unavailable > r.before
	switch {
	case !r.trouble && (more || known != nil):
		r.trouble, r.began = true, r.before
		if known == nil {
			known = r.ask(ctx)
		}
		if known == nil {
			r.log.Warn("hits got 503", "answers", unavailable-r.began, "now", "the store answers")
			break
		}
		r.log.Warn("hits get 503", "answers", unavailable-r.began, "err", oneLine(known))
	case r.trouble && !more && known == nil && r.ask(ctx) == nil:
		r.trouble = false
		r.log.Info("hits are counted again", "answered503", unavailable-r.began)
	}
	r.before = unavailable
}

func (r *refusals) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*look)
	defer cancel()
	return r.why(ctx)
}

// attack notices when many connections have gone. What they needed is garbage then,
// and without them nothing may allocate enough for Go to collect it; nor does Go give
// memory back at once.
type attack struct {
	most int64 // open connections since the last one was over
	last int64 // at the last look
	rest bool  // some may be going still
}

// many is how many connections have memory worth the trouble: about 10 MiB.
const many = 200

// over reports whether more than half of the connections, and many, have gone; and
// once more when the rest of them has.
func (a *attack) over(open int64) bool {
	a.most = max(a.most, open)
	gone, still := a.most-open, open >= a.last
	a.last = open
	switch {
	case gone >= many && open <= a.most/2:
		a.rest = true
	case a.rest && still:
		a.rest = false
		if gone == 0 {
			return false
		}
	default:
		return false
	}
	a.most = open
	return true
}
