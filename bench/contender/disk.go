package contender

import (
	"context"

	"github.com/counterd/counterd/bench/load"
)

// The disk alone: what a durable answer costs at least.
func init() {
	Register(Contender{
		Name: "fdatasync", Title: "the disk: 32-byte write + fdatasync",
		Protocol: Disk, Kind: Durable,
		Start: func(_ context.Context, e Env) (*Instance, error) {
			return &Instance{
				Load: func(ctx context.Context, w load.Workload) (load.Result, error) {
					w.Cores = e.Cores // it stands where the server stands
					return load.Disk(ctx, e.Data, w)
				},
				Stop: func() {},
			}, nil
		},
	})
}
