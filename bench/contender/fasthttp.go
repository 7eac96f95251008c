package contender

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/counterd/counterd/bench/proc"
)

func init() {
	Register(Contender{
		Name: "fasthttp", Title: "fasthttp",
		Protocol: HTTP, Kind: Memory, Containers: true,
		Check: built("fasthttp"),
		Start: startFasthttp,
	})
}

func startFasthttp(ctx context.Context, e Env) (*Instance, error) {
	if e.Docker != nil {
		return e.Docker.start(ctx, e, []string{"/fasthttp", "--listen=:8080"})
	}
	var addr string
	p, err := proc.Start(ctx, proc.Spec{
		Args:  []string{filepath.Join(e.Bin, "fasthttp"), "--listen=127.0.0.1:0"},
		Cores: e.Cores,
		Ready: func(line string) (ok bool) {
			addr, ok = strings.CutPrefix(line, "listening ")
			return ok
		},
	})
	if err != nil {
		return nil, err
	}
	return httpInstance(p, addr, e.Data), nil
}
