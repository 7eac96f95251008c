package contender

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"text/template"

	"github.com/counterd/counterd/bench/proc"
)

func init() {
	Register(Contender{
		Name: "nginx", Title: "nginx, a constant",
		Protocol: HTTP, Kind: Constant,
		Needs: []string{"nginx"},
		Start: startNginx,
	})
}

// nginxFiles is what nginx needs for 10,000 connections.
const nginxFiles = 16_384

func startNginx(ctx context.Context, e Env) (*Instance, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config, err := nginxConfig(e, port)
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(ctx, proc.Spec{
		Args:  []string{"nginx", "-p", e.Data, "-c", config, "-e", "stderr"},
		Cores: e.Cores,
	})
	if err != nil {
		return nil, err
	}
	in := httpInstance(p, fmt.Sprintf("127.0.0.1:%d", port), e.Data)
	asked := int64(0) // its page counts the requests for the page too
	in.Count = func(ctx context.Context) (int64, error) {
		n, err := nginxRequests(ctx, in.Addr)
		if err != nil {
			return 0, err
		}
		asked++
		return n - asked, nil
	}
	if err := untilAnswers(ctx, in.Died, in.answers); err != nil {
		in.Stop()
		return nil, fmt.Errorf("%w\n%s", err, p.Output())
	}
	return in, nil
}

func nginxConfig(e Env, port int) (path string, err error) {
	tmpl, err := template.ParseFiles(filepath.Join(e.Peers, "nginx", "nginx.conf.tmpl"))
	if err != nil {
		return "", err
	}
	path = filepath.Join(e.Data, "nginx.conf")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	settings := map[string]any{
		"Workers": e.workers(), "Files": nginxFiles, "Connections": nginxFiles - 1024,
		"Dir": e.Data, "Port": port, "User": "",
	}
	if os.Geteuid() == 0 {
		settings["User"] = "root" // its directory is ours alone
	}
	return path, tmpl.Execute(f, settings)
}

var nginxTotals = regexp.MustCompile(`(?m)^ \d+ \d+ (\d+)`)

// nginxRequests reads the third of "accepts handled requests".
func nginxRequests(ctx context.Context, addr string) (int64, error) {
	page, err := get(ctx, "http://"+addr+"/count")
	if err != nil {
		return 0, err
	}
	m := nginxTotals.FindStringSubmatch(page)
	if m == nil {
		return 0, fmt.Errorf("nginx's status page was not understood: %q", page)
	}
	return strconv.ParseInt(m[1], 10, 64)
}
