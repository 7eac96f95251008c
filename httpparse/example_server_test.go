package httpparse_test

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/counterd/counterd/httpparse"
)

// The answers of this server, rendered once.
var (
	textPlain = httpparse.MustField("Content-Type", "text/plain; charset=utf-8")
	okay      = httpparse.NewResponse(200, textPlain)
)

// connection is what a server keeps of one connection, however it does its I/O.
type connection struct {
	state httpparse.State
	in    []byte // what has arrived and isn't consumed
	path  string // of the request whose body is arriving
	size  int    // of that body, so far
}

// take is given what has arrived. It returns what has to be sent, and whether the
// connection ends with that. The parser may serve any number of connections, one
// after the other.
func (c *connection) take(p *httpparse.Parser, date *httpparse.Date, piece []byte) (out []byte, last bool) {
	c.in = append(c.in, piece...)
	rest := c.in
	for {
		n, event, err := p.Next(&c.state, rest)
		if err != nil {
			refused := err.(*httpparse.Error)
			r := httpparse.NewResponse(refused.Status, textPlain)
			return r.Append(out, date, c.state.Reply(), []byte(refused.Reason+"\n")), true
		}
		rest = rest[n:]
		switch event {
		case httpparse.NeedMore:
			c.in = append(c.in[:0], rest...)
			return out, false
		case httpparse.Head:
			r := p.Request()
			if r.Expect == httpparse.ExpectUnknown {
				reply := c.state.Reply()
				reply.Close = true // who knows what it will send
				return httpparse.NewResponse(417, textPlain).Append(out, date, reply, nil), true
			}
			c.path, c.size = string(r.Path), 0 // a copy: r is gone with the next call
			if r.Expect == httpparse.ExpectContinue && len(rest) == 0 {
				out = append(out, httpparse.Continue...)
			}
			if r.HasBody {
				continue // Data and End follow
			}
		case httpparse.Data:
			c.size += len(p.Data()) // streamed: no body is ever held as a whole
			continue
		case httpparse.End:
		}
		// The request is complete.
		out = okay.Append(out, date, c.state.Reply(), fmt.Appendf(nil, "%d bytes for %s\n", c.size, c.path))
		if c.state.Reply().Close {
			return out, true
		}
	}
}

// serve is a connection with a goroutine of its own. A server on the open
// internet bounds how many there are.
func serve(nc net.Conn) {
	defer nc.Close()
	var c connection
	parser := httpparse.NewParser(httpparse.Limits{})
	date := httpparse.NewDate(time.Now())
	piece := make([]byte, 4096)
	for last := false; !last; {
		if !c.state.InMessage() {
			nc.SetReadDeadline(time.Now().Add(10 * time.Second)) // for a whole request
		}
		n, err := nc.Read(piece)
		if err != nil {
			return
		}
		date.Set(time.Now())
		var out []byte
		out, last = c.take(parser, date, piece[:n])
		nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
	// What is unread when a socket is closed resets the connection, and may take
	// the last answer back: RFC 9112 9.6.
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.CloseWrite()
		tcp.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, tcp)
	}
}

// A whole server: pipelining, bodies, Expect, HEAD, errors, and a close that lets
// the last answer arrive.
func Example_server() {
	client, server := net.Pipe()
	go serve(server)
	go io.WriteString(client, "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+
		"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"+
		"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	answers, err := io.ReadAll(client)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(withoutDates(answers))
	// Output:
	// HTTP/1.1 200 OK
	// Content-Type: text/plain; charset=utf-8
	// Content-Length: 20
	//
	// 5 bytes for /upload
	// HTTP/1.1 200 OK
	// Content-Type: text/plain; charset=utf-8
	// Content-Length: 14
	//
	// HTTP/1.1 200 OK
	// Content-Type: text/plain; charset=utf-8
	// Content-Length: 18
	// Connection: close
	//
	// 0 bytes for /last
}
