package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dialers bounds the connections that are being opened at one time.
const dialers = 64

// Held are connections that each made one request and are kept open.
type Held struct {
	conns []net.Conn
}

// Hold opens n keep-alive connections and makes one request on each. The
// error names the first connection that failed; what was opened is closed.
func Hold(ctx context.Context, addr string, n int) (*Held, error) {
	if err := roomFor(ctx, n); err != nil {
		return nil, err
	}
	h := &Held{conns: make([]net.Conn, n)}
	next := make(chan int)
	failed := make(chan error, dialers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var open sync.WaitGroup
	for range dialers {
		open.Go(func() {
			for i := range next {
				c, err := holdOne(ctx, addr)
				if err != nil {
					failed <- fmt.Errorf("connection %d of %d: %w", i+1, n, err)
					cancel()
					return
				}
				h.conns[i] = c
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	open.Wait()
	select {
	case err := <-failed:
		h.Close()
		return nil, err
	default:
	}
	if err := ctx.Err(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// roomFor waits until the kernel's firewall can keep n more connections in mind:
// it remembers closed ones for two minutes, and drops new ones when its table is
// full. What can't be read isn't in the way.
func roomFor(ctx context.Context, n int) error {
	for {
		limit, err := readNumber("/proc/sys/net/netfilter/nf_conntrack_max")
		if err != nil {
			return nil
		}
		used, err := readNumber("/proc/sys/net/netfilter/nf_conntrack_count")
		if err != nil || used+n < limit-limit/10 || used < limit/10 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func readNumber(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func holdOne(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := askOnce(c, addr); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func askOnce(c net.Conn, addr string) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", addr); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s", answer.Status)
	}
	return c.SetDeadline(time.Time{})
}

// Close closes the connections.
func (h *Held) Close() {
	for _, c := range h.conns {
		if c != nil {
			c.Close()
		}
	}
}
