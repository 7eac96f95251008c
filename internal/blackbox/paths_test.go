package blackbox

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
)

// longest is the longest path that can be a counter.
var longest = "/" + strings.Repeat("x", counter.MaxName-1)

// post is a request with a body.
func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// TestHitsCountOnTheirPath: a hit counts on its path, raw and up to '?', whatever octets it holds;
// /count and what is below it only reads.
func TestHitsCountOnTheirPath(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 41, nil)
		c := s.dial()
		counts, sum := map[string]int64{"/": 41}, int64(41)
		hit := func(request, path string) {
			t.Helper()
			c.send(request)
			counts[path]++
			sum++
			checkFields(t, c.wantNumber(counts[path]))
		}
		shows := func(target string, n int64) {
			t.Helper()
			c.send(request("GET", target))
			checkFields(t, c.wantNumber(n))
		}
		shows("/count", 41)
		shows("/count/", 41)
		shows("/count/never", 0)
		for _, h := range []struct{ target, path string }{
			{"/", "/"}, {"/?/count", "/"}, {"http://a", "/"}, {"http://a/", "/"}, {"http://a?/count", "/"},
			{"http://count", "/"}, {"http://a/b?c", "/b"}, {"HTTP://b:1/b", "/b"}, {"/b", "/b"}, {"/b/", "/b/"}, {"//b", "//b"}, {"//", "//"},
			{"/b/../b", "/b/../b"}, {"/./b", "/./b"}, {"/%62", "/%62"}, {"/B", "/B"}, {"/b;c", "/b;c"}, {"/b%3fc", "/b%3fc"},
			{"/counter", "/counter"}, {"/coun", "/coun"}, {"/COUNT", "/COUNT"}, {"/%63ount", "/%63ount"}, {"//count", "//count"}, {"/count%2Fb", "/count%2Fb"}, {"/count;b", "/count;b"},
			{"/a[]=1", "/a[]=1"}, {"/\u00e9", "/\u00e9"}, {"/*", "/*"}, {longest, longest}, {longest + "?" + longest, longest},
		} {
			for _, method := range []string{"GET", "POST", "COOK"} {
				hit(request(method, h.target), h.path)
			}
			shows("/count"+h.path, counts[h.path])
		}
		hit(request("OPTIONS", "*"), "/")
		hit(post("/b", "GET /c"), "/b")
		// Every octet that a target may hold is a path of its own.
		for octet := 0x21; octet <= 0xff; octet++ {
			if octet == '#' || octet == '?' || octet == 0x7f || octet == '%' && name == engine.Std {
				continue // net/http wants two hex digits behind it
			}
			path := "/octets/" + string([]byte{byte(octet)})
			hit(request("GET", path), path)
			hit(request("GET", path+"?"), path)
			shows("/count"+path, 2)
		}
		for target, n := range map[string]int64{
			"/count": sum, "/count?x": sum, "http://a/count": sum, "HTTP://a:1/count?y": sum,
			"/count/": counts["/"], "/count/?x": counts["/"], "http://a/count/": counts["/"],
			"/count//": counts["//"], "/count//b": counts["//b"], "/count/b?x": counts["/b"], "http://a/count/b": counts["/b"],
			"/count/count": 0, "/count/count/b": 0, "/count/%62?": counts["/%62"], "/count/nothing": 0, "/count///": 0,
		} {
			shows(target, n)
			c.send(request("HEAD", target))
			if a := c.answer("HEAD"); a.status != 200 || a.fields.Get("Content-Length") != fmt.Sprint(len(fmt.Sprint(n))+1) {
				t.Errorf("HEAD %s gets %d %v", target, a.status, a.fields)
			}
		}
		for _, target := range []string{"/count", "/count/", "/count/b", "/count/count", "/count//", "http://a/count/b", "/count/never?x"} {
			for _, method := range []string{"POST", "DELETE", "get", "OPTIONS"} {
				c.send(request(method, target))
				a := c.want(405)
				checkFields(t, a)
				if a.close || a.fields.Get("Allow") != "GET, HEAD" {
					t.Errorf("%s %s gets %v", method, target, a.fields)
				}
			}
		}
		c.send(post("/count/b", "abc") + request("TRACE", "/b"))
		c.want(405)
		c.want(501)
		shows("/count", sum)
		if l, ok := s.store.(counter.Lister); ok {
			if n, _ := l.Names(); n != int64(len(counts)) {
				t.Errorf("%d counters, want %d: reading makes none", n, len(counts))
			}
		}
	})
}

// TestLongestPathIsExact: a counter's name has at most 1,024 bytes; the path of a read has
// /count besides.
func TestLongestPathIsExact(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		for _, refused := range []string{
			request("GET", longest+"x"),
			request("HEAD", "http://a"+longest+"x?q"),
			request("GET", "/count"+longest+"x"),
			post(longest+"x", "abc"),
			"POST " + longest + "x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
			request("GET", longest+strings.Repeat("x", 10000)),
		} {
			c := s.dial()
			c.send(request("GET", longest) + request("GET", "/count"+longest))
			n := c.want(200).number()
			c.wantNumber(n)
			c.send(refused)
			method, _, _ := strings.Cut(refused, " ")
			a := c.answer(method)
			if a.status != 414 || !a.close {
				t.Errorf("%.10q gets %d, says close: %v; want 414 and close", refused, a.status, a.close)
			}
			if method != "HEAD" {
				checkFields(t, a)
			}
			if name == engine.Std {
				c.halfClose() // net/http waits for a small body that it has refused
			}
			c.wantEnd()
		}
		// The same with 405 goes on: nothing of it is kept.
		c := s.dial()
		c.send(request("POST", "/count"+longest) + request("GET", "/count"))
		c.want(405)
		c.wantNumber(6)
	})
}

// TestTooManyPaths: a hit on a new path beyond the limit gets 507 and counts
// nothing; the connection stays, and those that exist go on.
func TestTooManyPaths(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.limited(t, name, 10, 3, nil)
		c := s.dial()
		c.send(request("GET", "/count/x") + request("GET", "/count/y")) // make none
		c.wantNumber(0)
		c.wantNumber(0)
		c.send(request("GET", "/a") + request("GET", "/b"))
		c.wantNumber(1)
		c.wantNumber(1)
		refused := func() {
			t.Helper()
			a := c.want(507)
			checkFields(t, a)
			if a.close || a.fields.Get("Connection") != "" {
				t.Errorf("507 with %v", a.fields)
			}
		}
		c.send(request("GET", "/c"))
		refused()
		c.send(request("HEAD", "/c"))
		if a := c.answer("HEAD"); a.status != 507 {
			t.Errorf("HEAD gets %d", a.status)
		}
		// In one pipeline, with their neighbours.
		c.send(request("GET", "/a") + request("GET", "/c") + post("/d", "abc") + request("GET", "/count/c") + request("GET", "/count") +
			request("GET", "/b") + request("GET", "/c") + request("GET", "/") + request("GET", "/c") + request("GET", "/a") + request("GET", "/count"))
		c.wantNumber(2)
		refused()
		refused()
		c.wantNumber(0)
		c.wantNumber(13)
		c.wantNumber(2)
		refused()
		c.wantNumber(11)
		refused()
		c.wantNumber(3)
		c.wantNumber(16)
		// Also when the body was asked for.
		c.send("POST /c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		c.want(100)
		c.send("abc")
		refused()
		c.send(request("GET", "/a") + request("GET", "/count") + request("GET", "/count/c"))
		c.wantNumber(4)
		c.wantNumber(17)
		c.wantNumber(0)
		// On the last request of a connection too.
		c.send(request("GET", "/e", "Connection: close"))
		if a := c.want(507); !a.close {
			t.Error("the last answer does not say close")
		}
		c.wantEnd()
		if st := s.Stats(); st.TooMany != 8 || st.Hits != 7 || st.Unavailable != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestPathPipelines: in a pipeline over some paths the sum and each counter show
// exactly the state at their place, wherever the requests lie with regard to
// segments and batches.
func TestPathPipelines(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 5, nil)
		r := rand.New(rand.NewPCG(7, 7))
		paths := []string{"/", "/a", "/b", "/a/b", longest}
		counts, sum := map[string]int64{"/": 5}, int64(5)
		c := s.dial()
		rounds := 60
		if name == engine.Std && strings.HasSuffix(kind.name, "Paths") {
			rounds = 10 // a commit for each request
		}
		for range rounds {
			var out strings.Builder
			var want []int64 // -1: 405
			for range 1 + r.IntN(1+r.IntN(300)) {
				path := paths[r.IntN(len(paths))]
				n := int64(-1)
				switch r.IntN(8) {
				case 0:
					out.WriteString(request("GET", "/count"))
					n = sum
				case 1:
					out.WriteString(request("GET", "/count"+path))
					n = counts[path]
				case 2:
					out.WriteString(request("PATCH", "/count"+path))
				case 3:
					out.WriteString(post(path, "GET / HTTP/1.1"))
					counts[path]++
					sum++
					n = counts[path]
				default:
					out.WriteString(request("GET", path+"?q"))
					counts[path]++
					sum++
					n = counts[path]
				}
				want = append(want, n)
			}
			go c.sendIn(1+r.IntN(5000), out.String())
			for _, n := range want {
				if n < 0 {
					c.want(405)
				} else {
					c.wantNumber(n)
				}
			}
		}
	})
}

// TestBodyInPiecesOnItsPath: a hit whose body arrives in pieces counts on the path
// of its head, though others are served between the pieces.
func TestBodyInPiecesOnItsPath(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, func(o *options) { o.Loops = 1 })
		path := func(i int) string { return fmt.Sprintf("/body/%d/%s", i, strings.Repeat("y", 100*i)) }
		var slow []*client
		for i := range 5 {
			c := s.dial()
			c.send("POST " + path(i) + "?q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			slow = append(slow, c)
		}
		other := s.dial()
		n := int64(0)
		for _, piece := range []string{"1", "\r\n", "a", "\r\n2;x=y\r\nbc\r\n", "0\r\n", "T: v\r\n", "\r\n"} {
			n++
			for range 2 {
				other.send(post("/other", strings.Repeat("z", 3000)))
			}
			other.wantNumber(2*n - 1)
			other.wantNumber(2 * n)
			for _, c := range slow {
				c.send(piece)
			}
		}
		for i, c := range slow {
			c.wantNumber(1)
			c.send(request("GET", "/count"+path(i)))
			c.wantNumber(1)
		}
		other.send(request("GET", "/count/other") + request("GET", "/count"))
		other.wantNumber(2 * n)
		other.wantNumber(2*n + 5)
	})
}

// TestSumEndsForAllPaths: it is the sum that ends at 2^63-1; then nothing more is counted on any
// path, and everything can be read.
func TestSumEndsForAllPaths(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, math.MaxInt64-4, nil)
		c := s.dial()
		c.send(request("GET", "/a") + request("GET", "/count") + request("GET", "/b"))
		c.wantNumber(1)
		c.wantNumber(math.MaxInt64 - 3)
		c.wantNumber(1)
		c.send(strings.Repeat(request("GET", "/a"), 4) + request("GET", "/count") + request("GET", "/count/a"))
		c.wantNumber(2)
		c.wantNumber(3)
		for range 2 {
			if a := c.want(503); a.close || a.fields.Get("Retry-After") == "" {
				t.Errorf("503 with %v", a.fields)
			}
		}
		c.wantNumber(math.MaxInt64)
		c.wantNumber(3)
		c.send(request("GET", "/new") + request("GET", "/b") + get)
		for range 3 {
			c.want(503)
		}
		for target, n := range map[string]int64{"/count": math.MaxInt64, "/count/": math.MaxInt64 - 4, "/count/a": 3, "/count/b": 1, "/count/new": 0} {
			c.send(request("GET", target))
			c.wantNumber(n)
		}
	})
}

// TestOnePathAmongMany: clients with a path of their own see their own numbers, one
// after the other, and a sum that only grows and holds their own.
func TestOnePathAmongMany(t *testing.T) {
	over(t, engines, pathStores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		const clients, rounds, depth = 8, 20, 5
		failed := make(chan error, clients)
		for i := range clients {
			go func() { failed <- alone(s.addr, fmt.Sprintf("/client/%d", i), rounds, depth) }()
		}
		for range clients {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		if n := s.count(); n != clients*rounds*depth {
			t.Errorf("the sum is %d", n)
		}
	})
}

func alone(addr, path string, rounds, depth int) error {
	c, err := connect(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	pipeline := strings.Repeat(request("GET", path)+request("GET", "/count")+request("GET", "/count"+path), depth)
	sum := int64(0)
	for n := int64(0); n < int64(rounds*depth); {
		if _, err := c.Write([]byte(pipeline)); err != nil {
			return err
		}
		for range depth {
			n++
			var shown [3]int64
			for i := range shown {
				a, err := c.read("GET")
				if err != nil {
					return err
				}
				shown[i] = a.number()
			}
			if shown[0] != n || shown[2] != n || shown[1] <= sum || shown[1] < n {
				return fmt.Errorf("hit %d on %s: number %d, then sum %d after %d, count %d", n, path, shown[0], shown[1], sum, shown[2])
			}
			sum = shown[1]
		}
	}
	return nil
}
