package main

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/counterd/counterd/httpparse"
	"github.com/panjf2000/gnet/v2"
)

// stoppable is the server, and tells when it is up.
type stoppable struct {
	server
	up chan gnet.Engine
}

func (s *stoppable) OnBoot(e gnet.Engine) gnet.Action {
	s.up <- e
	return gnet.None
}

// TestServer sends requests in pieces and reads the answers, up to the close
// after the last.
func TestServer(t *testing.T) {
	s := &stoppable{server{Parser: httpparse.NewParser(httpparse.Limits{})}, make(chan gnet.Engine, 1)}
	path := filepath.Join(t.TempDir(), "socket")
	done := make(chan error, 1)
	go func() { done <- gnet.Run(s, "unix://"+path) }()
	engine := <-s.up
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := engine.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct{ pieces, want []string }{
		{[]string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n", "\r\nhel"}, []string{answer, answer}},
		{[]string{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"}, []string{lastAnswer}},
		{[]string{"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n"}, []string{answer, refusal}},
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		for _, piece := range c.pieces {
			if _, err := io.WriteString(conn, piece); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range c.want {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
				t.Errorf("%q: answer %q, %v, want %q", c.pieces, got, err, want)
			}
		}
		conn.Close()
	}
}

const (
	answer     = "HTTP/1.1 204 No Content\r\n\r\n"
	lastAnswer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
	refusal    = "HTTP/1.1 400 \r\nConnection: close\r\n\r\nhttpparse: line not ended by CRLF\n"
)
