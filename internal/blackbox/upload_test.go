package blackbox

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
)

// uploads are bodies that are too large, by their head or only on their way.
var uploads = map[string]struct{ head, piece string }{
	"Content-Length": {fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", pieces*pieceSize), strings.Repeat("x", pieceSize)},
	"chunked":        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", pieceSize, strings.Repeat("x", pieceSize))},
}

const (
	pieces    = 48
	pieceSize = 64 << 10
)

// upload sends without a look at what the server says. It returns what went wrong.
func (c *client) upload(head, piece string, n int) error {
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	for range n {
		if _, err := io.WriteString(c, piece); err != nil {
			return err
		}
		time.Sleep(60 * time.Millisecond)
	}
	return nil
}

// TestRefusedUpload: a client that sends a large body slowly, and looks for an answer
// only when it has sent all of it, finds that it is too large.
func TestRefusedUpload(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		for what, u := range uploads {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				s := start(t, name, counter.NewMem(), nil)
				c := s.dial()
				if err := c.upload(u.head, u.piece, pieces); err != nil {
					t.Fatalf("it can't send all of it: %v", err)
				}
				if what == "chunked" {
					c.send("0\r\n\r\n")
				}
				if a := c.want(413); !a.close {
					t.Error("does not say close")
				}
				c.wantEnd()
				if n := s.count(); n != 0 {
					t.Errorf("counted %d", n)
				}
			})
		}
	})
}

// TestRefusedUploadInDrain: a stop comes while a refused upload is read off. That
// doesn't make it unclean, and the client finds its answer.
func TestRefusedUploadInDrain(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		for what, u := range uploads {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				s := start(t, name, counter.NewMem(), nil)
				c := s.dial()
				sent := make(chan error, 1)
				go func() { sent <- c.upload(u.head, u.piece, pieces) }()
				wait(t, "it is refused", func() bool { return s.Stats().Refused["body_too_large"] == 1 })
				c.want(413)
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Errorf("shutdown: %v", err)
				}
				if err := <-sent; err == nil {
					t.Error("it was read to its end")
				}
			})
		}
	})
}
