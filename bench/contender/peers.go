package contender

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/counterd/counterd/bench/proc"
)

// The Go servers below bench/peers: each counts, and answers the number.
func init() {
	for _, p := range []struct {
		name, title string
		blind       bool
		args        []string
	}{
		{"fasthttp", "fasthttp", false, []string{"fasthttp"}},
		{"nethttp", "net/http", false, []string{"models", "--model=nethttp"}},
		{"hertz-netpoll", "hertz on netpoll", false, []string{"hertz", "--transport=netpoll"}},
		{"hertz-net", "hertz on net", false, []string{"hertz", "--transport=net"}},
		{"nbio", "nbio", false, []string{"nbio"}},
		{"stripped-gnet", "gnet, blank line only (stripped)", true, []string{"models", "--model=loop"}},
		{"stripped-goroutine", "goroutines, blank line only (stripped)", true, []string{"models", "--model=goroutine"}},
	} {
		Register(Contender{
			Name: p.name, Title: p.title, Protocol: HTTP, Kind: Memory,
			Blind: p.blind, Works: true, Containers: true,
			Check: built(p.args[0]),
			Start: func(ctx context.Context, e Env) (*Instance, error) { return startPeer(ctx, e, p.args) },
		})
	}
}

func startPeer(ctx context.Context, e Env, args []string) (*Instance, error) {
	args = append([]string{filepath.Join(e.Bin, args[0])}, args[1:]...)
	if e.Work > 0 {
		args = append(args, "--work="+strconv.FormatUint(e.Work, 10))
	}
	if e.Docker != nil {
		return e.Docker.serve(ctx, e, append(args, "--listen=:8080"))
	}
	var addr string
	p, err := proc.Start(ctx, proc.Spec{
		Args:  append(args, "--listen=127.0.0.1:0"),
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
