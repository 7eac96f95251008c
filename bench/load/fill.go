package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Fill makes one request to each of /1 … /n, many at a time, so that a server
// that keeps a counter for each path has all of them before it is measured.
func Fill(ctx context.Context, addr string, n int) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()

	// Requests are sent while answers are read: neither side waits for long.
	sent := make(chan error, 1)
	go func() { sent <- sendPaths(c, addr, n) }()
	answers := bufio.NewReaderSize(c, 64<<10)
	for i := range n {
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			c.Close()
			<-sent
			return fmt.Errorf("answer %d of %d: %w", i+1, n, err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		if err == nil && r.StatusCode != http.StatusOK {
			err = fmt.Errorf("answer %d of %d: %s", i+1, n, r.Status)
		}
		if err != nil {
			c.Close()
			<-sent
			return err
		}
	}
	return <-sent
}

func sendPaths(to io.Writer, host string, n int) error {
	w := bufio.NewWriterSize(to, 64<<10)
	for i := range n {
		if _, err := fmt.Fprintf(w, "GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n", i+1, host); err != nil {
			return err
		}
	}
	return w.Flush()
}
