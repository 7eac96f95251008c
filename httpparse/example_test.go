package httpparse_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/counterd/counterd/httpparse"
)

// withoutDates makes answers the same at any time, and their lines end in LF.
func withoutDates(answers []byte) string {
	s := regexp.MustCompile("Date: [^\r]*\r\n").ReplaceAllString(string(answers), "")
	return strings.ReplaceAll(s, "\r", "")
}

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
			buf = buf[n:]
			if event == httpparse.NeedMore {
				break // buf is kept for the next piece
			}
			switch event {
			case httpparse.Head:
				r := parser.Request()
				fmt.Printf("%s %s for %s\n", r.Method, r.Path, r.Host)
				if r.HasBody {
					continue // Data and End follow
				}
			case httpparse.Data:
				fmt.Printf("data %q\n", parser.Data())
				continue
			case httpparse.End:
			}
			fmt.Println("complete")
		}
	}
	// Output:
	// GET /hello for example.com
	// complete
	// POST /upload for example.com
	// data "some"
	// data " text"
	// complete
	// 400 line not ended by CRLF
}

// A refusal is one of the package's values. Its Name is a label for metrics, and
// Errors lists all of them. The answer to HEAD has no body, even if it is an error:
// State.Reply knows.
func ExampleError() {
	parser := httpparse.NewParser(httpparse.Limits{})
	refusals := make(map[string]int)
	for _, e := range httpparse.Errors() {
		refusals[e.Name] = 0
	}
	for _, request := range []string{
		"GET / HTTP/1.1\r\n\r\n",
		"HEAD / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
	} {
		var state httpparse.State
		_, _, err := parser.Next(&state, []byte(request))
		refusals[err.(*httpparse.Error).Name]++
		fmt.Printf("%v, %+v\n", err == httpparse.ErrHostMissing, state.Reply())
	}
	fmt.Println(refusals["missing_host"], refusals["malformed_content_length"], refusals["malformed_target"])
	// Output:
	// true, {HEAD:false HTTP10:false Close:true}
	// true, {HEAD:true HTTP10:false Close:true}
	// false, {HEAD:false HTTP10:false Close:true}
	// 2 1 0
}

// Limits are exact. What is too large is refused as soon as that is certain, not
// when it has arrived.
func ExampleLimits() {
	parser := httpparse.NewParser(httpparse.Limits{MaxHeaderBytes: 100, MaxBodyBytes: 10})
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n",
		"GET / HTTP/1.1\r\nCookie: " + strings.Repeat("x", 100),
		"GET /" + strings.Repeat("x", 100),
	} {
		var state httpparse.State
		buf := []byte(request)
		n, _, err := parser.Next(&state, buf)
		if err == nil { // the head was accepted
			_, _, err = parser.Next(&state, buf[n:])
		}
		fmt.Println(err.(*httpparse.Error).Status, err)
	}
	// Output:
	// 413 httpparse: request body too large
	// 413 httpparse: request body too large
	// 431 httpparse: request header fields too large
	// 414 httpparse: request target too long
}

// What Request and Data return lies in the caller's buffer: copy what is to be
// kept beyond the next call of Next.
func ExampleParser_Request() {
	parser := httpparse.NewParser(httpparse.Limits{})
	var state httpparse.State
	buf := []byte("GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n")
	var kept []string
	for {
		n, event, err := parser.Next(&state, buf)
		if err != nil || event == httpparse.NeedMore {
			break
		}
		kept = append(kept, string(parser.Request().Path)) // string copies
		buf = buf[n:]
	}
	fmt.Println(kept)
	// Output:
	// [/first /second]
}

// Each loop or goroutine that reads has a Parser of its own; each connection has a
// State, which may go from one to another between two calls of Next. A Response
// and a Date may be shared.
func ExampleParser_severalLoops() {
	okay := httpparse.NewResponse(204)
	var loops sync.WaitGroup
	for range 4 {
		loops.Go(func() {
			parser := httpparse.NewParser(httpparse.Limits{})
			connections := make([]httpparse.State, 100)
			for i := range connections {
				state := &connections[i]
				_, event, err := parser.Next(state, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
				if event != httpparse.Head || err != nil {
					panic(err)
				}
				okay.Append(nil, nil, state.Reply(), nil)
			}
		})
	}
	loops.Wait()
	// Output:
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

// What answers have in common is rendered once. A field that only one of them has
// is checked when it is made, so that nothing in it can begin another line.
func ExampleResponse() {
	moved := httpparse.NewResponse(301, httpparse.MustField("Content-Type", "text/plain"))
	for _, to := range []string{"/elsewhere", "/\r\nSet-Cookie: stolen=1"} {
		location, err := httpparse.NewField("Location", to)
		if err != nil {
			fmt.Println(err)
			continue
		}
		answer := moved.Append(nil, nil, httpparse.Reply{Close: true}, []byte("moved\n"), location)
		fmt.Print(withoutDates(answer))
	}
	// Output:
	// HTTP/1.1 301 Moved Permanently
	// Content-Type: text/plain
	// Location: /elsewhere
	// Content-Length: 6
	// Connection: close
	//
	// moved
	// httpparse: field Location has a control byte in its value "/\r\nSet-Cookie: stolen=1"
}

// A body of unknown length goes out in chunks; to HTTP/1.0, which has none, it
// goes out as it is, and the connection closes behind it.
func ExampleResponse_AppendStream() {
	okay := httpparse.NewResponse(200)
	for _, reply := range []httpparse.Reply{{}, {HTTP10: true}} {
		answer, body := okay.AppendStream(nil, nil, reply)
		answer = body.Append(answer, []byte("some"))
		answer = body.Append(answer, []byte(" text\n"))
		answer = body.AppendEnd(answer)
		fmt.Printf("%scloses: %v\n", withoutDates(answer), body.Close)
	}
	// Output:
	// HTTP/1.1 200 OK
	// Transfer-Encoding: chunked
	//
	// 4
	// some
	// 6
	//  text
	//
	// 0
	//
	// closes: false
	// HTTP/1.1 200 OK
	// Connection: close
	//
	// some text
	// closes: true
}
