package main

import (
	"context"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/pgstore"
)

// pgByHand are the counters in a PostgreSQL that no server uses.
type pgByHand struct {
	url string
	o   pgstore.Options
}

func (p *pgByHand) Each(ctx context.Context, f func(counter.Named) error) error {
	return pgstore.List(ctx, p.url, p.o, f)
}

func (p *pgByHand) Count(ctx context.Context, name string) (n int64, exists bool, err error) {
	return pgstore.ShowName(ctx, p.url, p.o, name)
}

func (p *pgByHand) Load(ctx context.Context, set []counter.Named) error {
	return pgstore.Load(ctx, p.url, p.o, set)
}

func (p *pgByHand) Drop(ctx context.Context, names []string) error {
	return pgstore.Drop(ctx, p.url, p.o, names)
}
