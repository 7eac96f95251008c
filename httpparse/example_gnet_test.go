package httpparse_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/counterd/counterd/httpparse"
	"github.com/panjf2000/gnet/v2"
)

// greeter is a whole server on gnet, with one event loop. Only deadlines are
// missing, and a limit to what a client that doesn't read may leave unsent.
type greeter struct {
	gnet.BuiltinEventEngine
	parser *httpparse.Parser // one for each event loop
	up     chan gnet.Engine
}

// visitor is what one connection needs.
type visitor struct {
	state  httpparse.State
	answer string // to the request whose body is arriving
	close  bool
}

func (g *greeter) OnBoot(eng gnet.Engine) gnet.Action {
	g.up <- eng
	return gnet.None
}

func (g *greeter) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(new(visitor))
	return nil, gnet.None
}

func (g *greeter) OnTraffic(c gnet.Conn) gnet.Action {
	v := c.Context().(*visitor)
	buf, _ := c.Peek(-1) // all that has arrived and was not discarded
	taken := 0
	for {
		n, event, err := g.parser.Next(&v.state, buf[taken:])
		taken += n
		if err != nil {
			status := err.(*httpparse.Error).Status
			fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, http.StatusText(status))
			return gnet.Close
		}
		whole := event == httpparse.End
		if event == httpparse.Head {
			r := g.parser.Request()
			whole = !r.HasBody
			v.close = r.Close
			v.answer = greeting(r) // a copy: r is gone with the next call of Next
			if r.Expect == httpparse.ExpectContinue {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
		}
		if whole {
			io.WriteString(c, v.answer)
			if v.close {
				return gnet.Close
			}
		}
		if event == httpparse.NeedMore {
			c.Discard(taken) // the rest stays for the next time
			return gnet.None
		}
	}
}

func greeting(r *httpparse.Request) string {
	body := fmt.Sprintf("hello %s\n", r.Path)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", len(body))
	switch {
	case r.Close:
		head += "Connection: close\r\n"
	case r.Minor == 0:
		head += "Connection: keep-alive\r\n"
	}
	if string(r.Method) == "HEAD" {
		body = ""
	}
	return head + "\r\n" + body
}

// A server on gnet.
func Example_gnet() {
	dir, err := os.MkdirTemp("", "greeter")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	g := &greeter{parser: httpparse.NewParser(httpparse.Limits{}), up: make(chan gnet.Engine, 1)}
	ended := make(chan error, 1)
	go func() { ended <- gnet.Run(g, "unix://"+socket) }()
	eng := <-g.up

	conn, err := net.Dial("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	io.WriteString(conn, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.0\r\n\r\n")
	answers, _ := io.ReadAll(conn)
	conn.Close()
	fmt.Printf("%q\n", answers)

	eng.Stop(context.Background())
	<-ended
	// Output:
	// "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello /a\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhello /b\n"
}
