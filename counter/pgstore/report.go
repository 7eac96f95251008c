package pgstore

import (
	"errors"
	"log/slog"
	"time"

	"github.com/counterd/counterd/counter"
)

const (
	// outage is how long attempts fail before it is worth a line in the log.
	outage = time.Second

	// apart is how far apart lines are at least.
	apart = time.Second
)

// report tells the log how batches fare: once when they begin to fail, once more
// if waiting turns out not to help, and once when the database takes them again.
// What comes too soon after the line before is told by the next batch, if it still
// holds then; so a state that comes and goes makes no more than a line a second.
type report struct {
	log   *slog.Logger
	since time.Time // when batches began to fail; zero while the database takes them
	told  grade
	last  time.Time // when the latest line was written
}

// grade is how bad it is.
type grade int

const (
	fine    grade = iota
	away          // waiting may help
	refused       // the database refuses what counterd asks for
)

// failed notes that an attempt failed. A conflict, or a connection that is
// replaced at once, is no outage and not worth a line.
func (r *report) failed(err error) {
	now := time.Now()
	switch {
	case errors.Is(err, counter.ErrFull): // the count's end, not the database's fault
		return
	case errors.Is(err, errUnknown), errors.Is(err, errForeign):
		if r.may(now) {
			r.log.Warn("a batch was given up", "error", err)
		}
		return
	}
	if r.since.IsZero() {
		r.since = now
	}
	switch {
	case permanent(err):
		if r.told < refused && r.may(now) {
			r.told = refused
			r.log.Error("the database refuses batches; trying again with each one", "since", r.since, "error", err)
		}
	case now.Sub(r.since) >= outage:
		if r.told < away && r.may(now) {
			r.told = away
			r.log.Warn("the database doesn't take batches; trying again", "since", r.since, "error", err)
		}
	}
}

// taken notes that the database took a batch.
func (r *report) taken() {
	if r.since.IsZero() {
		return
	}
	now := time.Now()
	if r.told > fine {
		if !r.may(now) {
			return
		}
		r.log.Info("the database takes batches again", "after", now.Sub(r.since).Round(time.Millisecond))
	}
	r.since, r.told = time.Time{}, fine
}

// may reports whether a line may be written now, and takes it for written.
func (r *report) may(now time.Time) bool {
	if now.Sub(r.last) < apart {
		return false
	}
	r.last = now
	return true
}
