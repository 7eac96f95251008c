package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is longer than the admin listener takes to find out that the
// store doesn't answer.
const healthTimeout = 5 * time.Second

func newHealth() *cobra.Command {
	var c config
	opts := pick(options(&c), "admin")
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running server whether it is ready (exit code 0 or 1)",
		Args:  noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := resolve(cmd, opts, &c); err != nil {
				return err
			}
			return health(cmd.Context(), c.Admin)
		},
	}
	bind(cmd, opts)
	cmd.DisableFlagsInUseLine = true
	return cmd
}

// health returns nil if the server whose admin listener is at addr is ready.
func health(ctx context.Context, addr string) error {
	if addr == "" {
		return errors.New("health: the admin listener is off")
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	addrs := reachable(addr)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	// No proxy: a container's HTTP_PROXY doesn't lead back into it.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialFirst(ctx, network, addrs)
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("health: not ready: %s", strings.TrimSpace(string(reason)))
	}
	return nil
}

// dialFirst connects to the first of addrs that it can.
func dialFirst(ctx context.Context, network string, addrs []string) (c net.Conn, err error) {
	var d net.Dialer
	for _, addr := range addrs {
		var failed error
		if c, failed = d.DialContext(ctx, network, addr); failed == nil {
			return c, nil
		}
		err = errors.Join(err, failed)
	}
	return nil, errors.New(oneLine(err))
}

// reachable turns an address to listen on into those to connect to, in this order. The
// name localhost is not asked for: a container may have nobody to ask.
func reachable(addr string) []string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return []string{addr}
	}
	v4, v6 := net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || host == "localhost" || err == nil && ip == netip.IPv6Unspecified():
		return []string{v4, v6} // [::] has IPv4 too
	case err == nil && ip.IsUnspecified():
		return []string{v4}
	}
	return []string{addr}
}
