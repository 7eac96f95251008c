package blackbox

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/engine"
	"github.com/counterd/counterd/internal/conformance"
	"github.com/counterd/counterd/internal/race"
)

func TestConformance(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		if kind.name != "file" && kind.name != "slowPaths" { // one that loops commit themselves, one that a goroutine does
			race.Spare(t)
		}
		s := kind.start(t, name, 0, nil)
		var n int64
		for _, row := range conformance.Rows {
			if kind.perPath && otherwisePerPath()[row.Name] {
				continue
			}
			if err := conformance.Check(s.addr, row, conformance.Server{Std: name == engine.Std, PerPath: kind.perPath}, &n); err != nil {
				t.Errorf("%s %s: %v\n%.200q", row.Section, row.Name, err, row.Bytes)
				n = s.count()
			}
		}
		if got := s.count(); got != n {
			t.Errorf("the count is %d, want %d", got, n)
		}
	})
}

// otherwisePerPath are the rows that mean something else where each path has a
// counter, which has tests of its own: what is below /count, and long paths.
var otherwisePerPath = sync.OnceValue(func() map[string]bool {
	rows := make(map[string]bool)
	for _, row := range conformance.Rows {
		line, _, _ := strings.Cut(row.Bytes, "\r\n")
		path, _, _ := strings.Cut(line, "?")
		if strings.Contains(path, "/count/") || len(path) > counter.MaxName {
			rows[row.Name] = true
		}
	}
	return rows
})

// TestFewRowsAreOtherwisePerPath: nearly all rules are the same.
func TestFewRowsAreOtherwisePerPath(t *testing.T) {
	if n := len(otherwisePerPath()); n == 0 || n > 20 {
		t.Errorf("%d of %d rows", n, len(conformance.Rows))
	}
}

// checkFields checks what the contract says of every answer.
func checkFields(t *testing.T, a answer) {
	t.Helper()
	for field, want := range map[string]string{
		"Content-Type":  "text/plain; charset=utf-8",
		"Cache-Control": "no-store",
	} {
		if got := a.fields.Get(field); got != want {
			t.Errorf("%d has %s: %q", a.status, field, got)
		}
	}
	date, err := http.ParseTime(a.fields.Get("Date"))
	if err != nil || time.Since(date).Abs() > 5*time.Second {
		t.Errorf("%d has Date %q", a.status, a.fields.Get("Date"))
	}
	if a.fields.Get("Content-Length") == "" {
		t.Errorf("%d has no Content-Length", a.status)
	}
	if a.status == 200 {
		return
	}
	if strings.Index(a.body, "\n") != len(a.body)-1 || len(a.body) < 2 || a.body[0] >= '0' && a.body[0] <= '9' {
		t.Errorf("%d has body %q, want one line of reason", a.status, a.body)
	}
}

func TestHitsAndReads(t *testing.T) {
	over(t, engines, stores, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 41, nil)
		c := s.dial()
		c.send(count)
		checkFields(t, c.wantNumber(41))
		n := int64(41)
		for _, r := range []string{
			get,
			request("GET", "/%63ount"), request("GET", "/count/"), request("GET", "//count"),
			request("GET", "/COUNT"), request("GET", "/count%20"), request("GET", "/?/count"), request("GET", "http://a"),
			request("GET", "http://a?/count"), request("GET", "http://count"),
			request("OPTIONS", "*"), request("DELETE", "/a/b?c"), request("COOK", "/"),
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
			"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n",
		} {
			c.send(r)
			n++
			a := c.wantNumber(n)
			checkFields(t, a)
			if a.fields.Get("Connection") != "" {
				t.Errorf("%q gets Connection: %q", r, a.fields.Get("Connection"))
			}
		}
		for _, r := range []string{count, request("GET", "/count?x"), request("GET", "http://a/count"), request("GET", "HTTP://a:1/count?y")} {
			c.send(r)
			c.wantNumber(n)
		}
		s.dial().send(get) // another connection
		n++
		wait(t, "the other hit", func() bool { return s.count() == n })
		c.send(count)
		c.wantNumber(n)
	})
}

func TestHeadHasNoBody(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		c := s.dial()
		c.send(request("HEAD", "/") + request("HEAD", "/count") + count)
		for range 2 {
			a := c.answer("HEAD")
			if a.status != 200 || a.fields.Get("Content-Length") != "2" {
				t.Errorf("HEAD gets %d %v", a.status, a.fields)
			}
			checkFields(t, answer{status: 200, fields: a.fields})
		}
		c.wantNumber(1) // right behind: the answers to HEAD had no body
	})
}

func TestRefusals(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		for _, tc := range []struct {
			name, send  string
			status      int
			keeps, last bool
		}{
			{name: "POST /count", send: request("POST", "/count"), status: 405, keeps: true},
			{name: "OPTIONS /count", send: request("OPTIONS", "/count?"), status: 405, keeps: true},
			{name: "body on /count", send: "PUT http://a/count HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", status: 405, keeps: true},
			{name: "TRACE", send: request("TRACE", "/"), status: 501, keeps: true},
			{name: "CONNECT", send: "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", status: 501, last: true},
			{name: "coding", send: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", status: 501, last: true},
			{name: "malformed", send: "GET /\r\n\r\n", status: 400, last: true},
			{name: "no Host", send: "GET / HTTP/1.1\r\n\r\n", status: 400, last: true},
			{name: "HTTP/3", send: "GET / HTTP/3.0\r\nHost: a\r\n\r\n", status: 505, last: true},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := dial(t, s.addr)
				c.send(tc.send)
				a := c.answer("GET")
				if a.status != tc.status {
					t.Fatalf("status %d, want %d", a.status, tc.status)
				}
				if tc.status == 405 && a.fields.Get("Allow") != "GET, HEAD" {
					t.Errorf("Allow: %q", a.fields.Get("Allow"))
				}
				if name != engine.Std || tc.keeps { // net/http's own errors have less
					checkFields(t, a)
				}
				if a.close != tc.last {
					t.Errorf("says close: %v", a.close)
				}
				if tc.last {
					c.wantEnd()
					return
				}
				c.send(count)
				c.wantNumber(0)
			})
		}
		if n := s.count(); n != 0 {
			t.Errorf("refused requests counted %d", n)
		}
	})
}

func TestHTTP10StaysOnlyWhenAsked(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c := s.dial()
		c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		if a := c.wantNumber(1); !strings.EqualFold(a.fields.Get("Connection"), "keep-alive") {
			t.Errorf("Connection: %q", a.fields.Get("Connection"))
		}
		c.send("GET / HTTP/1.0\r\n\r\n")
		if a := c.wantNumber(2); !a.close {
			t.Error("does not say close")
		}
		c.wantEnd()
	})
}

// A pipelined read shows exactly the count at its place, wherever the requests
// of the pipeline lie with regard to segments and batches.
func TestPipelinedReads(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		c := s.dial()
		const rounds = 300 // more than a connection may be owed at once
		go func() {
			var b strings.Builder
			for range rounds {
				b.WriteString(get + count + request("POST", "/count") + get + get + count)
			}
			c.Write([]byte(b.String() + final))
		}()
		n := int64(0)
		for range rounds {
			c.wantNumber(n + 1)
			c.wantNumber(n + 1)
			c.want(405)
			c.wantNumber(n + 2)
			c.wantNumber(n + 3)
			n += 3
			c.wantNumber(n)
		}
		if a := c.wantNumber(n + 1); !a.close {
			t.Error("the last does not say close")
		}
		c.wantEnd()
	})
}

// Pipelines around and beyond what one connection may be owed at once; the
// client waits for all answers before it says more.
func TestPipelineDepths(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		c := s.dial()
		n := int64(0)
		for _, depth := range []int{1, 2, 127, 128, 129, 256, 257, 400, 1} {
			c.send(strings.Repeat(get, depth))
			for range depth {
				n++
				c.wantNumber(n)
			}
		}
	})
}

// What a client sends behind its last request is not looked at, and does not
// spoil the answers.
func TestNothingAfterClose(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, 0, nil)
		c := s.dial()
		c.send(get + final + get + "rubbish")
		c.wantNumber(1)
		c.wantNumber(2)
		c.wantEnd()
		if n := s.count(); n != 2 {
			t.Errorf("counted %d", n)
		}
	})
}

const expecting = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"

func TestContinueKeepsOrder(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, nil)
		release := store.hold()
		c := s.dial()
		c.send(get + get + expecting)
		wait(t, "the store is asked", func() bool { return store.asked() > 0 })
		release()
		c.wantNumber(1)
		c.wantNumber(2)
		c.want(100)
		c.send("abc" + count)
		c.wantNumber(3)
		c.wantNumber(3)
	})
}

func TestContinueNotForRefused(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		for _, tc := range []struct {
			send   string
			status int
		}{
			{"POST /count HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", 405},
			{"TRACE / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", 501},
			{"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n", 413},
			{"POST / HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 3\r\n\r\n", 417},
		} {
			c := s.dial()
			c.send(tc.send)
			a := c.want(tc.status)
			if !a.close {
				t.Errorf("%d does not say close", a.status)
			}
			if tc.status != 417 || name != engine.Std {
				checkFields(t, a)
			}
			if name == engine.Std && tc.status != 413 {
				c.halfClose() // net/http waits for a small body that it has refused
			}
			c.wantEnd()
		}
		if n := s.count(); n != 0 {
			t.Errorf("counted %d", n)
		}
	})
}

// A hit counts when its body is whole, not before.
func TestBodyCountsWhenWhole(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c, cut, other := s.dial(), s.dial(), s.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
		cut.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		cut.halfClose()
		other.send(get)
		other.wantNumber(1)
		c.send("def")
		c.wantNumber(2)
		// net/http has its 400 for the body that was cut off; ours have nothing
		// to say, since the client has gone.
		for {
			a, err := cut.read("GET")
			if err != nil {
				break
			}
			if a.status == 200 {
				t.Error("half a body was answered 200")
			}
		}
		if n := s.count(); n != 2 {
			t.Errorf("counted %d", n)
		}
	})
}

func TestStoreAwayGets503(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, nil)
		c := s.dial()
		c.send(get)
		c.wantNumber(1)
		store.fail(errAway)
		c.send(get + count + get)
		for range 3 {
			a := c.want(503)
			checkFields(t, a)
			if a.fields.Get("Retry-After") == "" || a.close || strings.Contains(a.body, errAway.Error()) {
				t.Errorf("503 %v %q", a.fields, a.body)
			}
		}
		store.fail(nil)
		c.send(get + count)
		c.wantNumber(2)
		c.wantNumber(2)
		if st := s.Stats(); st.Hits != 2 || st.Reads != 1 || st.Unavailable != 3 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestSlowStoreGets503InTime(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		store := &scripted{}
		s := start(t, name, store, func(o *options) { o.storeTimeout = 100 * time.Millisecond })
		release := store.hold()
		began := time.Now()
		c := s.dial()
		c.send(get)
		a := c.want(503)
		checkFields(t, a)
		if took := time.Since(began); took < 100*time.Millisecond || took > 5*time.Second {
			t.Errorf("503 after %v", took)
		}
		if a.fields.Get("Retry-After") == "" || a.close {
			t.Errorf("503 with %v", a.fields)
		}
		release()
		c.send(get)
		c.wantNumber(1)
	})
}

func TestFullCountGets503(t *testing.T) {
	matrix(t, engines, func(t *testing.T, name string, kind storeKind) {
		s := kind.start(t, name, math.MaxInt64-3, nil)
		c := s.dial()
		c.send(get)
		c.wantNumber(math.MaxInt64 - 2)
		c.send(count + get + count + get + count + get + get + count)
		c.wantNumber(math.MaxInt64 - 2)
		c.wantNumber(math.MaxInt64 - 1)
		c.wantNumber(math.MaxInt64 - 1)
		c.wantNumber(math.MaxInt64)
		c.wantNumber(math.MaxInt64)
		for range 2 {
			if a := c.want(503); a.close || a.fields.Get("Retry-After") == "" {
				t.Errorf("503 with %v", a.fields)
			}
		}
		c.wantNumber(math.MaxInt64)
		c.send(get + count)
		c.want(503)
		c.wantNumber(math.MaxInt64)
	})
}

func TestStatsCountWhatWasServed(t *testing.T) {
	each(t, engines, func(t *testing.T, name string) {
		s := start(t, name, counter.NewMem(), nil)
		c := s.dial()
		c.send(get + count + request("HEAD", "/") + request("POST", "/count"))
		c.want(200)
		c.want(200)
		c.answer("HEAD")
		c.want(405)
		st := s.Stats()
		if st.Hits != 2 || st.Reads != 1 || st.Accepted != 1 || st.Open != 1 || st.Unavailable != 0 {
			t.Errorf("%+v", st)
		}
		if fmt.Sprint(st.Refused) != "map[method_not_allowed:1]" {
			t.Errorf("refused %v", st.Refused)
		}
		c.Close()
		wait(t, "no open connection", func() bool { return s.Stats().Open == 0 })
	})
}
