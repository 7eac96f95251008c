package counter

import (
	"errors"
	"math"
)

// addNow settles b by the instant store, at one moment.
func (c *Counter) addNow(b *Batch) {
	b.err = nil
	c.instant.Lock()
	for i := range b.runs {
		if b.err = c.addRun(&b.runs[i], b); b.err != nil {
			break
		}
	}
	c.instant.Unlock()
	if b.err != nil && errors.Is(b.err, ErrLost) {
		c.lose(b.err)
	}
}

func (c *Counter) addRun(r *run, b *Batch) error {
	total, sum, err := c.instant.AddNow(b.name(r), int64(r.hits))
	r.granted = r.hits
	if rest := math.MaxInt64 - sum; rest > 0 && errors.Is(err, ErrFull) {
		r.granted, r.reason = int32(rest), full // fewer than hits, or it wouldn't be full
		total, _, err = c.instant.AddNow(b.name(r), rest)
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrFull):
		r.granted, r.reason = 0, full
	case errors.Is(err, ErrTooMany):
		r.granted, r.reason = 0, tooMany
	default:
		return err
	}
	switch r.what {
	case hitting:
		r.first = total - int64(r.granted) + 1
	case reading:
		r.first = total
	case readingSum:
		r.first = sum
	}
	return nil
}
