// Command gnet answers every well-formed request with 204, on all cores, and reads
// off bodies. A server for the open internet also needs deadlines, a limit of
// connections and of what it holds for clients that don't read, and has to
// half-close and read off before it closes, so that the last answer arrives.
package main

import (
	"sync"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/counterd/counterd/httpparse"
)

type server struct {
	gnet.BuiltinEventEngine
	loops sync.Map // gnet.EventLoop → *loop
	date  *httpparse.Date
}

// loop is what all connections of one event loop share.
type loop struct {
	parser *httpparse.Parser
	out    []byte
}

// conn is what a connection has of its own.
type conn struct {
	*loop
	state httpparse.State
}

var (
	noContent = httpparse.NewResponse(204)
	textPlain = httpparse.MustField("Content-Type", "text/plain; charset=utf-8")
)

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	l, ok := s.loops.Load(c.EventLoop())
	if !ok { // its first connection; nobody else stores for it
		l = &loop{parser: httpparse.NewParser(httpparse.Limits{})}
		s.loops.Store(c.EventLoop(), l)
	}
	c.SetContext(&conn{loop: l.(*loop)})
	return nil, gnet.None
}

func (s *server) OnTraffic(c gnet.Conn) gnet.Action {
	buf, _ := c.Peek(-1)
	s.date.Set(time.Now())
	used, action := c.Context().(*conn).answer(s.date, buf)
	if _, err := c.Write(c.Context().(*conn).out); err != nil {
		return gnet.Close
	}
	if used > 0 { // Discard(0) would discard all
		c.Discard(used)
	}
	return action
}

// answer appends to c.out what the requests in buf call for. It returns how much
// of buf is done with.
func (c *conn) answer(date *httpparse.Date, buf []byte) (used int, action gnet.Action) {
	c.out = c.out[:0]
	for {
		n, event, err := c.parser.Next(&c.state, buf[used:])
		used += n
		if err != nil {
			return used, c.refuse(date, err.(*httpparse.Error).Status, err.(*httpparse.Error).Reason)
		}
		switch event {
		case httpparse.NeedMore:
			return used, gnet.None
		case httpparse.Head:
			r := c.parser.Request()
			if r.Expect == httpparse.ExpectUnknown {
				return used, c.refuse(date, 417, "unknown expectation")
			}
			if r.Expect == httpparse.ExpectContinue && used == len(buf) {
				c.out = append(c.out, httpparse.Continue...)
			}
			if r.HasBody {
				continue
			}
		case httpparse.Data:
			continue
		}
		c.out = noContent.Append(c.out, date, c.state.Reply(), nil)
		if c.state.Reply().Close {
			return used, gnet.Close
		}
	}
}

func (c *conn) refuse(date *httpparse.Date, status int, reason string) gnet.Action {
	reply := c.state.Reply()
	reply.Close = true
	c.out = httpparse.NewResponse(status, textPlain).Append(c.out, date, reply, []byte(reason+"\n"))
	return gnet.Close
}

func main() {
	s := &server{date: httpparse.NewDate(time.Now())}
	panic(gnet.Run(s, "tcp://:8080", gnet.WithMulticore(true)))
}
