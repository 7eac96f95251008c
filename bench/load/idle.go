package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/counterd/counterd/bench/proc"
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
				c, err := holdOne(ctx, addr, i)
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

// perSource bounds the connections from one address of this machine: an address
// has some 28,000 ports for one server.
const perSource = 20_000

func holdOne(ctx context.Context, addr string, nth int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+nth/perSource))}}
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

// HoldCommand is the hidden subcommand that holds connections in a process of
// its own: two servers' idle connections are more than one may have open.
const HoldCommand = "hold"

// HoldApart holds n connections in another process until it is stopped.
func HoldApart(ctx context.Context, addr string, n int) (*proc.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the lab's own program: %w", err)
	}
	return proc.Start(ctx, proc.Spec{
		Args:        []string{self, HoldCommand, addr, strconv.Itoa(n)},
		Ready:       func(line string) bool { return line == holding },
		ReadyWithin: time.Minute,
	})
}

const holding = "holding"

// HoldMain is the subcommand: ADDRESS NUMBER. It holds until it is killed.
func HoldMain(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: %s ADDRESS NUMBER", HoldCommand)
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("number: %w", err)
	}
	held, err := Hold(context.Background(), args[0], n)
	if err != nil {
		return err
	}
	defer held.Reset()
	fmt.Println(holding)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	return nil
}
