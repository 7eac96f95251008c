package main

import (
	"context"
	"sync"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/dirstore"
)

// dirByHand is a directory of counters that no server has open.
type dirByHand struct{ path string }

func (d *dirByHand) Each(ctx context.Context, f func(counter.Named) error) error {
	t, err := dirstore.Read(d.path)
	if err != nil {
		return err
	}
	return t.Lister(new(sync.Mutex)).Each(ctx, f)
}

func (d *dirByHand) Count(_ context.Context, name string) (n int64, exists bool, err error) {
	t, err := dirstore.Read(d.path)
	if err != nil {
		return 0, false, err
	}
	i, exists := t.Find([]byte(name))
	if exists {
		n = t.Count(i)
	}
	return n, exists, nil
}

func (d *dirByHand) Load(_ context.Context, set []counter.Named) error {
	return dirstore.Set(d.path, set)
}

func (d *dirByHand) Drop(_ context.Context, names []string) error {
	return dirstore.Drop(d.path, names)
}
