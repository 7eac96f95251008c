package counter

import (
	"context"
	"errors"
	"testing"
)

// overfull is a store in which somebody has set one counter to the most by hand: the
// sum has room, that counter has none.
type overfull struct{ asked int }

func (o *overfull) Add(_ context.Context, ds []Delta) (int64, error) {
	if o.asked++; o.asked > 10 {
		return 0, errors.New("asked for ever")
	}
	for _, d := range ds {
		if d.Hits > 0 {
			return 0, ErrFull
		}
	}
	return 7, nil
}

func (*overfull) Close() error { return nil }

func TestCounterFullByHandIsNotAskedForEver(t *testing.T) {
	d := []Delta{{Name: []byte("/a"), Hits: 3}}
	if sum, err := fill(t.Context(), &overfull{}, d); sum != 7 || err != nil || d[0].Hits != 0 {
		t.Errorf("sum %d with %d hits, %v; want 7 with none", sum, d[0].Hits, err)
	}
}
