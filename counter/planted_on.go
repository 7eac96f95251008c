//go:build plantedbugs

package counter

import (
	"context"
	"os"
)

// plant puts in the bug that COUNTERD_PLANTED_BUG names, if it is one of these.
func plant(s Store) Store {
	switch bug := os.Getenv("COUNTERD_PLANTED_BUG"); bug {
	case "dirty-read", "off-by-one", "partial-sum":
		return &planted{s, bug}
	}
	return s
}

type planted struct {
	Store
	bug string
}

// Add shows a read what nobody has counted yet, moves the numbers of several hits
// by one, or leaves what one of several counters was given out of the sum.
func (p *planted) Add(ctx context.Context, deltas []Delta) (int64, error) {
	sum, err := p.Store.Add(ctx, deltas)
	if err != nil {
		return sum, err
	}
	last, counters := int64(0), 0
	for i := range deltas {
		if d := &deltas[i]; d.Hits > 0 {
			last = d.Hits
			counters++
		}
	}
	switch {
	case p.bug == "dirty-read" && counters == 0:
		sum += 2
		for i := range deltas {
			deltas[i].Total += 2
		}
	case p.bug == "off-by-one":
		for i := range deltas {
			if deltas[i].Hits > 1 {
				deltas[i].Total++
			}
		}
	case p.bug == "partial-sum" && counters > 1:
		sum -= last
	}
	return sum, nil
}
