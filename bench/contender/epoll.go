package contender

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/counterd/counterd/bench/proc"
)

// The floor: C, epoll, no parsing.
func init() {
	Register(
		Contender{
			Name: "epoll", Title: "C epoll, blank line only",
			Protocol: HTTP, Kind: Memory, Blind: true,
			Check: built("epoll"),
			Start: func(ctx context.Context, e Env) (*Instance, error) { return startEpoll(ctx, e, 1) },
		},
		Contender{
			Name: "epoll-percore", Title: "C epoll, one thread per core",
			Protocol: HTTP, Kind: Memory, Blind: true, ManyCores: true,
			Check: built("epoll"),
			Start: func(ctx context.Context, e Env) (*Instance, error) { return startEpoll(ctx, e, e.workers()) },
		},
	)
}

func startEpoll(ctx context.Context, e Env, threads int) (*Instance, error) {
	var port string
	p, err := proc.Start(ctx, proc.Spec{
		Args:  []string{filepath.Join(e.Bin, "epoll"), "0", strconv.Itoa(threads)},
		Cores: e.Cores,
		Ready: func(line string) (ok bool) {
			port, ok = strings.CutPrefix(line, "listening ")
			return ok
		},
	})
	if err != nil {
		return nil, err
	}
	return httpInstance(p, "127.0.0.1:"+port, e.Data), nil
}
