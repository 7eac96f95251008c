package contender

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/counterd/counterd/bench/proc"
)

// The floor in C: epoll and no parsing, in memory, on every core, and durable.
func init() {
	floor := Contender{Stack: "C on epoll", Protocol: HTTP, Kind: Memory, Blind: true, Check: built("epoll")}

	one := floor
	one.Name, one.Title = "epoll", "C on epoll, blank line only"
	one.Start = func(ctx context.Context, e Env) (*Instance, error) { return startEpoll(ctx, e, "0") }

	all := floor
	all.Name, all.Title, all.ManyCores = "epoll-percore", "C on epoll, one thread per core", true
	all.Start = func(ctx context.Context, e Env) (*Instance, error) {
		return startEpoll(ctx, e, "0", strconv.Itoa(e.workers()))
	}

	durable := floor
	durable.Name, durable.Title, durable.Kind = "epoll-file", "C on epoll, durable file", Durable
	durable.Start = func(ctx context.Context, e Env) (*Instance, error) {
		return startEpoll(ctx, e, "--file", filepath.Join(e.Data, "count"), "0")
	}
	Register(one, all, durable)
}

func startEpoll(ctx context.Context, e Env, args ...string) (*Instance, error) {
	var port string
	p, err := proc.Start(ctx, proc.Spec{
		Args:  append([]string{filepath.Join(e.Bin, "epoll")}, args...),
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
