package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// exchange is a request and what must be answered.
type exchange struct {
	send string
	says string
}

// drawExchanges makes requests of all kinds, one after the other, and what a
// server with a counter for each path answers.
func drawExchanges(t *rapid.T) (list []exchange) {
	counts, sum := map[string]int64{}, int64(0)
	hit := func(path string) string {
		counts[path]++
		sum++
		return fmt.Sprint(counts[path])
	}
	long := "/" + strings.Repeat("x", counter.MaxName-1)
	paths := rapid.SampledFrom([]string{"/", "/a", "/b", "/counter", "//", "/\x80[]{|}\"<>^`\\", long})
	for range rapid.IntRange(1, 12).Draw(t, "requests") {
		path := paths.Draw(t, "path")
		var x exchange
		switch rapid.IntRange(0, 12).Draw(t, "kind") {
		case 0, 1:
			x = exchange{"GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n", hit(path)}
		case 2:
			x = exchange{"HEAD " + path + "?q HTTP/1.1\r\nHost: a\r\n\r\n", hit(path)}
		case 3:
			x = exchange{"POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /", hit(path)}
		case 4:
			x = exchange{"PUT " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: v\r\n\r\n", hit(path)}
		case 5:
			x = exchange{"POST " + path + " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", hit(path)}
		case 6:
			x = exchange{"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", hit("/")}
		case 7:
			x = exchange{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", hit("/")}
		case 8, 9:
			x = exchange{"GET /count" + path + " HTTP/1.1\r\nHost: a\r\n\r\n", fmt.Sprint(counts[path])}
		case 10:
			x = exchange{"GET /count HTTP/1.1\r\nHost: a\r\n\r\n", fmt.Sprint(sum)}
		case 11:
			x = exchange{"PUT /count" + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "405"}
		case 12:
			x = exchange{"\r\nTRACE " + path + " HTTP/1.1\r\nHost: a\r\n\r\n", "501"}
		}
		list = append(list, x)
	}
	switch rapid.IntRange(0, 5).Draw(t, "end") {
	case 0:
		list = append(list, exchange{"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /a", hit("/a") + ", the last"})
	case 1:
		list = append(list, exchange{"GET /a HTTP/1.1\r\n\r\n", "400, the last"})
	case 2:
		list = append(list, exchange{"GET " + long + "x HTTP/1.1\r\nHost: a\r\n\r\nGET /a", "414, the last"})
	case 3:
		list = append(list, exchange{"GET /count" + long + "x HTTP/1.1\r\nHost: a\r\n\r\nGET /a", "414, the last"})
	}
	return list
}

// table is a counter for each path, in memory.
func table() *counter.Counter {
	return counter.NewInstant(counter.NewMemTable(1000), counter.Options{})
}

// talker is a session and what is kept of its connection between two reads.
type talker struct {
	session
	kept []byte
	says []string
}

// hear gives the session more bytes, and has it answer all it can, a few at a
// time.
func (k *talker) hear(c *codec, over *counter.Counter, data []byte, room int) {
	data = append(k.kept, data...)
	rest := data
	for {
		var b counter.Batch
		var answers []answer
		rest, answers = k.gather(c, rest, nil, room, &b)
		if len(answers) == 0 {
			break
		}
		over.Submit(&b)
		for _, a := range answers {
			if a.kind != proceed {
				k.says = append(k.says, say(a, &b))
			}
		}
	}
	k.kept = slices.Clone(rest)
	for i := range data {
		data[i] = '!' // the next read writes there
	}
}

func say(a answer, b *counter.Batch) string {
	says := ""
	if a.kind == refusal {
		says = fmt.Sprint(a.err.Status)
	} else if n, err := b.Number(a.place); err != nil {
		says = err.Error()
	} else {
		says = fmt.Sprint(n)
	}
	if a.reply.Close {
		says += ", the last"
	}
	return says
}

// TestSegmentsChangeNothing: however the bytes of a connection come in pieces, also
// within a body, and while others use the parser in between, each request is
// answered as if it had come whole: on the counter that its head named.
func TestSegmentsChangeNothing(t *testing.T) {
	c := &codec{Parser: httpparse.NewParser(httpparse.Limits{MaxHeaderBytes: 16 << 10, MaxBodyBytes: 1 << 20}), contract: contract{perPath: true}}
	rapid.Check(t, func(t *rapid.T) {
		list := drawExchanges(t)
		var wire []byte
		var want []string
		for _, x := range list {
			wire = append(wire, x.send...)
			want = append(want, x.says)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "cuts"), 1))
		one, other := talker{}, talker{}
		over, apart := table(), table()
		for rest := wire; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(1+r.IntN(200)))
			one.hear(c, over, slices.Clone(rest[:n]), 1+r.IntN(burst))
			rest = rest[n:]
			other.hear(c, apart, []byte("POST /another HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"), burst)
			other.hear(c, apart, []byte("x"), burst)
		}
		if !slices.Equal(one.says, want) {
			t.Fatalf("%q\nis answered %q\nwant        %q", wire, one.says, want)
		}
		for i, says := range other.says {
			if says != fmt.Sprint(i+1) {
				t.Fatalf("another connection was answered %q", other.says)
			}
		}
		over.Close(t.Context())
		apart.Close(t.Context())
	})
}

// A client that leaves half an empty line after each request can't hold up a drain:
// it stands between two requests.
func TestHalfAnEmptyLineBeginsNoRequest(t *testing.T) {
	for rest, want := range map[string]bool{"": true, "\r": true, "\r\n": false, "G": false, "\rG": false} {
		if got := new(session).between([]byte(rest)); got != want {
			t.Errorf("between(%q) = %t", rest, got)
		}
	}
}
