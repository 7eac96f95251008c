// Command gnet answers 204 to every well-formed request, and reads off bodies.
package main

import (
	"fmt"

	"github.com/panjf2000/gnet/v2"

	"github.com/counterd/counterd/httpparse"
)

type server struct {
	gnet.BuiltinEventEngine
	*httpparse.Parser // one for the event loop; a connection has a State
}

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(new(httpparse.State))
	return nil, gnet.None
}

func (s *server) OnTraffic(c gnet.Conn) gnet.Action {
	buf, _ := c.Peek(-1)
	for used := 0; ; {
		n, event, err := s.Next(c.Context().(*httpparse.State), buf[used:])
		used += n
		switch r := s.Request(); {
		case err != nil:
			fmt.Fprintf(c, "HTTP/1.1 %d \r\nConnection: close\r\n\r\n%v\n", err.(*httpparse.Error).Status, err)
			return gnet.Close
		case event == httpparse.Head && (r.Close || r.Expect != httpparse.ExpectNone):
			fmt.Fprint(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			return gnet.Close
		case event == httpparse.Head:
			fmt.Fprint(c, "HTTP/1.1 204 No Content\r\n\r\n")
		case event == httpparse.NeedMore && used == 0: // Discard(0) would discard all
			return gnet.None
		case event == httpparse.NeedMore:
			c.Discard(used)
			return gnet.None
		}
	}
}

func main() { panic(gnet.Run(&server{Parser: httpparse.NewParser(httpparse.Limits{})}, "tcp://:8080")) }
