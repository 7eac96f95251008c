// Command models counts requests on three I/O models with as little around them
// as each allows: --model=loop is gnet's event loop, --model=goroutine a
// goroutine per connection over net, --model=nethttp net/http.
//
// loop and goroutine are stripped: a request is whatever ends with a blank line.
// Nothing is parsed, bounded or timed, so they say what the models cost, not
// what a server costs. GET /count at the very start of a request reads.
package main

import (
	"bytes"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"

	"github.com/counterd/counterd/bench/peers/peer"
)

func main() {
	model := flag.String("model", "loop", "`loop`, goroutine or nethttp")
	ln := peer.Listen()
	go keepDate()
	switch *model {
	case "loop":
		log.Fatal(serveLoop(ln))
	case "goroutine":
		log.Fatal(serveGoroutines(ln))
	case "nethttp":
		log.Fatal(http.Serve(ln, http.HandlerFunc(serveHTTP)))
	}
	log.Fatalf("no model %q", *model)
}

// tail is all that stands between the length and the body; it changes each second.
var tail atomic.Pointer[[]byte]

func keepDate() {
	for {
		setDate()
		time.Sleep(time.Second)
	}
}

func setDate() {
	b := []byte("\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\nCache-Control: " + peer.CacheControl + "\r\n\r\n")
	tail.Store(&b)
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: " + peer.ContentType + "\r\nContent-Length: "

var (
	blankLine = []byte("\r\n\r\n")
	readLine  = []byte("GET /count ")
)

// answers appends an answer for each request that in holds, and returns what is
// left of in: the beginning of a request.
func answers(out, in []byte) (_, rest []byte) {
	var room [21]byte
	for {
		end := bytes.Index(in, blankLine)
		if end < 0 {
			return out, in
		}
		body := room[:0]
		if bytes.HasPrefix(in, readLine) {
			body = peer.Count(body)
		} else {
			body = peer.Hit(body)
		}
		out = append(out, head...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, *tail.Load()...)
		out = append(out, body...)
		in = in[end+len(blankLine):]
	}
}

type loop struct {
	gnet.BuiltinEventEngine
}

// out holds the answers of one turn of a loop.
type out struct{ bytes []byte }

func (*loop) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(&out{})
	return nil, gnet.None
}

func (*loop) OnTraffic(c gnet.Conn) gnet.Action {
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	o := c.Context().(*out)
	var rest []byte
	o.bytes, rest = answers(o.bytes[:0], in)
	if _, err := c.Discard(len(in) - len(rest)); err != nil {
		return gnet.Close
	}
	if len(o.bytes) == 0 {
		return gnet.None
	}
	if _, err := c.Write(o.bytes); err != nil {
		return gnet.Close
	}
	return gnet.None
}

// serveLoop enrols the listener's connections in gnet's loops, as counterd does.
func serveLoop(ln net.Listener) error {
	setDate()
	client, err := gnet.NewClient(&loop{},
		gnet.WithNumEventLoop(runtime.GOMAXPROCS(0)), gnet.WithLoadBalancing(gnet.RoundRobin),
		gnet.WithLogLevel(logging.ErrorLevel))
	if err != nil {
		return err
	}
	if err := client.Start(); err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		if _, err := client.Enroll(c); err != nil {
			return err
		}
	}
}

func serveGoroutines(ln net.Listener) error {
	setDate()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go converse(c)
	}
}

func converse(c net.Conn) {
	defer c.Close()
	in := make([]byte, 4<<10)
	var out, rest []byte
	for have := 0; have < len(in); {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		out, rest = answers(out[:0], in[:have+n])
		have = copy(in, rest)
		if len(out) == 0 {
			continue
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func serveHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // an error ends the connection anyway
	var room [21]byte
	body := room[:0]
	if r.URL.Path == "/count" && r.Method == http.MethodGet {
		body = peer.Count(body)
	} else {
		body = peer.Hit(body)
	}
	h := w.Header()
	h.Set("Content-Type", peer.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", peer.CacheControl)
	_, _ = w.Write(body)
}
