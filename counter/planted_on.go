//go:build plantedbugs

package counter

import (
	"context"
	"os"
)

// plant puts in the bug that COUNTERD_PLANTED_BUG names, if it is one of these.
func plant(s Store) Store {
	switch bug := os.Getenv("COUNTERD_PLANTED_BUG"); bug {
	case "dirty-read", "off-by-one":
		return &planted{s, bug}
	}
	return s
}

type planted struct {
	Store
	bug string
}

// Add shows a read what nobody has counted yet, or moves the numbers of several
// hits by one.
func (p *planted) Add(ctx context.Context, deltas []Delta) (int64, error) {
	sum, err := p.Store.Add(ctx, deltas)
	if err != nil || len(deltas) == 0 {
		if err == nil && p.bug == "dirty-read" {
			sum += 2
		}
		return sum, err
	}
	if p.bug == "off-by-one" && deltas[0].Hits > 1 {
		deltas[0].Total++
	}
	return sum, nil
}
