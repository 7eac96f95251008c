package httpparse_test

import (
	"fmt"

	"github.com/counterd/counterd/httpparse"
)

// A stream of requests, as it may arrive: in pieces that end anywhere.
func Example() {
	pieces := []string{
		"GET /hello?x=1 HTTP/1.1\r\nHost: example.com\r\n\r\nPOST /up",
		"load HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
		"5\r\n text\r\n0\r\n\r\nGET / HTTP/1.1\nHost: example.com\n\n",
	}
	parser := httpparse.NewParser(httpparse.Limits{})
	var state httpparse.State
	var buf []byte
	for _, piece := range pieces {
		buf = append(buf, piece...)
		for {
			n, event, err := parser.Next(&state, buf)
			if err != nil {
				refused := err.(*httpparse.Error)
				fmt.Println(refused.Status, refused.Reason)
				return
			}
			switch event {
			case httpparse.Head:
				r := parser.Request()
				fmt.Printf("%s %s for %s, body: %v\n", r.Method, r.Path, r.Host, r.HasBody)
			case httpparse.Data:
				fmt.Printf("data %q\n", parser.Data())
			case httpparse.End:
				fmt.Println("end")
			}
			buf = buf[n:]
			if event == httpparse.NeedMore {
				break
			}
		}
	}
	// Output:
	// GET /hello for example.com, body: false
	// POST /upload for example.com, body: true
	// data "some"
	// data " text"
	// end
	// 400 line not ended by CRLF
}

// All field lines, in order.
func ExampleRequest_Fields() {
	parser := httpparse.NewParser(httpparse.Limits{})
	var state httpparse.State
	buf := []byte("GET / HTTP/1.1\r\nHost: example.com\r\nAccept: text/html\r\nX-Empty:\r\n\r\n")
	if _, event, err := parser.Next(&state, buf); event != httpparse.Head || err != nil {
		return
	}
	for name, value := range parser.Request().Fields() {
		fmt.Printf("%s = %q\n", name, value)
	}
	// Output:
	// Host = "example.com"
	// Accept = "text/html"
	// X-Empty = ""
}
