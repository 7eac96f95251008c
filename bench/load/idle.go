package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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

// Reset closes them without a farewell: the kernel and its firewall forget them
// soon, where they'd remember them for minutes and have no room for others.
func (h *Held) Reset() {
	for _, c := range h.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	h.Close()
}
