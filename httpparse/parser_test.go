package httpparse

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unsafe"
)

func TestStateIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(State{}); n > 64 {
		t.Fatalf("State is %d bytes, want at most 64", n)
	}
}

// TestNothingIsScannedTwice: as a head and a trailer arrive octet by octet, all
// that has arrived is behind scan, save a CR that waits for its LF.
func TestNothingIsScannedTwice(t *testing.T) {
	long := strings.Repeat("x", 3000)
	head := "POST /" + long + " HTTP/1.1\r\nHost: a\r\nX-" + long + ": " + long + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	trailer := "X-" + long + ": " + long + "\r\n"
	p := NewParser(Limits{})
	var st State
	for i := range head[:len(head)-1] {
		n, ev, err := p.Next(&st, []byte(head[:i+1]))
		if n != 0 || ev != NeedMore || err != nil {
			t.Fatalf("after %d bytes: %d %v %v", i+1, n, ev, err)
		}
		if int(st.scan) < i {
			t.Fatalf("%d bytes came, %d were looked at", i+1, st.scan)
		}
	}
	mustNext(t, p, &st, head, len(head), Head)
	mustNext(t, p, &st, "0\r\n", 3, NeedMore)
	for i := range trailer[:len(trailer)-1] {
		mustNext(t, p, &st, trailer[:i+1], 0, NeedMore)
		if int(st.scan) < i {
			t.Fatalf("%d bytes of trailer came, %d were looked at", i+1, st.scan)
		}
	}
	mustNext(t, p, &st, trailer+"\r", len(trailer), NeedMore)
	mustNext(t, p, &st, "\r\n", 2, End)
}

func mustNext(t *testing.T, p *Parser, st *State, buf string, n int, ev Event) {
	t.Helper()
	gotN, gotEv, err := p.Next(st, []byte(buf))
	if gotN != n || gotEv != ev || err != nil {
		t.Fatalf("Next(%.40q): %d %v %v, want %d %v", buf, gotN, gotEv, err, n, ev)
	}
}

// TestNothingIsCarriedOver: a Parser that has seen one connection's request
// knows nothing of it in the next, and keeps nobody's buffer.
func TestNothingIsCarriedOver(t *testing.T) {
	p := NewParser(Limits{})
	var a, b State
	mustNext(t, p, &a, "POST /a HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", 95, Head)
	mustNext(t, p, &b, "GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 43, Head)
	r := p.Request()
	if r.HasBody || r.ContentLength != 0 || len(r.Host) != 0 || r.Expect != ExpectNone || r.Close || r.NumFields() != 1 {
		t.Errorf("the second request is %+v", r)
	}
	mustNext(t, p, &a, "hello", 5, Data)
	if r.Method != nil || r.NumFields() != 0 {
		t.Errorf("left after the call: %+v", r)
	}
	w := p.tokens.wildcat
	if w.Method != nil || w.Path != nil || w.Version != nil {
		t.Errorf("left in the tokenizer: %q %q %q", w.Method, w.Path, w.Version)
	}
	for i, h := range w.Headers {
		if h.Name != nil || h.Value != nil {
			t.Errorf("left in the tokenizer: field %d, %q", i, h)
		}
	}
	mustNext(t, p, &a, "", 0, End)
	mustNext(t, p, &a, "", 0, NeedMore)
	mustNext(t, p, &b, "", 0, NeedMore)
	if a != (State{}) || b != (State{}) {
		t.Errorf("states are %+v and %+v", a, b)
	}
}

// TestMemoryIsBounded: a head of thousands of fields that matter leaves no
// large arrays behind.
func TestMemoryIsBounded(t *testing.T) {
	p := NewParser(Limits{})
	var st State
	head := "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n" + strings.Repeat("Connection:\r\n", 1200) + "\r\n"
	mustNext(t, p, &st, head, len(head), Head)
	if n := p.Request().NumFields(); n != 1202 {
		t.Fatalf("%d fields", n)
	}
	mustNext(t, p, &st, "", 0, NeedMore)
	if n := len(p.tokens.wildcat.Headers); n > mostFields {
		t.Errorf("room for %d fields is kept", n)
	}
	if n := cap(p.tokens.lines); n > mostKept {
		t.Errorf("%d bytes are kept", n)
	}
}

func TestInMessageIsTrueWithinOne(t *testing.T) {
	p := NewParser(Limits{})
	var st State
	for _, step := range []struct {
		buf           string
		n             int
		ev            Event
		message, body bool
	}{
		{"", 0, NeedMore, false, false},
		{"\r", 0, NeedMore, false, false},
		{"\r\n", 2, NeedMore, false, false},
		{"P", 0, NeedMore, true, false},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 47, Head, true, true},
		{"", 0, NeedMore, true, true},
		{"x", 1, Data, true, true},
		{"", 0, End, false, false},
	} {
		mustNext(t, p, &st, step.buf, step.n, step.ev)
		if st.InMessage() != step.message || st.InBody() != step.body {
			t.Errorf("after %q: InMessage %v, InBody %v", step.buf, st.InMessage(), st.InBody())
		}
	}
}

// TestLimitsAreExact: N bytes pass and N+1 don't, also with limits that are not the
// defaults.
func TestLimitsAreExact(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	const body = "2;x\r\nab\r\n0\r\n"
	const trailer = "X: y\r\n\r\n"
	for _, c := range []struct {
		limits Limits
		input  string
		err    error
	}{
		{Limits{MaxHeaderBytes: len(head)}, head, nil},
		{Limits{MaxHeaderBytes: len(head) - 1}, head, ErrHeadTooLarge},
		{Limits{MaxHeaderBytes: 16}, head, ErrTargetTooLong},
		{Limits{MaxHeaderBytes: 4}, head, ErrMethodTooLong},
		{Limits{MaxBodyBytes: int64(len(body))}, head + body + trailer, nil},
		{Limits{MaxBodyBytes: int64(len(body) - 1)}, head + body + trailer, ErrBodyTooLarge},
		{Limits{MaxBodyBytes: -1}, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", nil},
		{Limits{MaxBodyBytes: -1}, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", ErrBodyTooLarge},
		{Limits{MaxBodyBytes: -1}, head, ErrBodyTooLarge},
		{Limits{MaxBodyBytes: 2}, head, ErrBodyTooLarge},
		{Limits{MaxBodyBytes: 3}, head + "0\r\n\r\n", nil},
		{Limits{MaxHeaderBytes: 60}, head + "0\r\nX: " + strings.Repeat("y", 60-7) + "\r\n\r\n", nil},
		{Limits{MaxHeaderBytes: 60}, head + "0\r\nX: " + strings.Repeat("y", 61-7) + "\r\n\r\n", ErrTrailerTooLarge},
	} {
		if got := drain(NewParser(c.limits), c.input); got != c.err {
			t.Errorf("%+v: %v, want %v", c.limits, got, c.err)
		}
	}
}

// drain reads input to its end or its first error.
func drain(p *Parser, input string) error {
	var st State
	buf := []byte(input)
	for {
		n, ev, err := p.Next(&st, buf)
		buf = buf[n:]
		if err != nil {
			return err
		}
		if ev == NeedMore {
			return nil
		}
	}
}

// TestErrorsAreTold: every error has what an answer needs.
func TestErrorsAreTold(t *testing.T) {
	word := regexp.MustCompile("^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
	names := make(map[string]bool)
	for _, e := range Errors() {
		if e.Status < 400 || e.Status > 599 || e.Reason == "" || e.Reason[0] <= '9' || strings.ContainsAny(e.Reason, "\r\n") || !strings.HasPrefix(e.Section, "RFC ") {
			t.Errorf("%+v", e)
		}
		if !word.MatchString(e.Name) || names[e.Name] {
			t.Errorf("%q is no word, or there twice", e.Name)
		}
		names[e.Name] = true
	}
	if len(names) != 31 {
		t.Errorf("%d errors: a new one changes what metrics show", len(names))
	}
}

// TestNoAllocations: nothing is allocated for a request, its body or its
// fields, nor for a refused one.
func TestCheckTargetAllocatesNothing(t *testing.T) {
	method, target := []byte("GET"), []byte("http://example.com/a?b")
	var path []byte
	n := testing.AllocsPerRun(100, func() { path, _ = CheckTarget(method, target) })
	if n != 0 || string(path) != "/a" {
		t.Errorf("%v allocations, path %q", n, path)
	}
}

func TestNoAllocations(t *testing.T) {
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "X-Field-%d: %d\r\n", i, i)
	}
	long := strings.Repeat("x", 3000)
	p := NewParser(Limits{})
	for _, input := range []string{
		"GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n",
		"GET http://[::1]:80/a?b HTTP/1.1\r\nAccept: */*\r\nHost: [::1]:80\r\nAccept-Language: en\r\nConnection: keep-alive\r\nCookie: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n" + many.String() + "\r\n",
		"GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /" + long + " HTTP/1.1\r\nHost: a\r\nX: y\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nConnection: " + long + "\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
	} {
		buf := []byte(input)
		fields := 0
		n := testing.AllocsPerRun(100, func() {
			var st State
			for rest := buf; ; {
				n, ev, err := p.Next(&st, rest)
				if err != nil || ev == NeedMore {
					return
				}
				rest = rest[n:]
				for name := range p.Request().Fields() {
					fields += len(name)
				}
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for %.60q", n, input)
		}
	}
}

// TestNextControlIsThePlainLoop compares with the plain loop, every octet at every place.
func TestNextControlIsThePlainLoop(t *testing.T) {
	plain := func(b []byte, i int) int {
		for i < len(b) && (b[i] >= 0x20 && b[i] != 0x7f || b[i] == '\t') {
			i++
		}
		return i
	}
	for size := range 26 {
		for at := range size {
			for c := range 256 {
				for _, fill := range []byte{'a', 0x80, 0xff, ' ', '\t', '~'} {
					b := make([]byte, size)
					for i := range b {
						b[i] = fill
					}
					b[at] = byte(c)
					if at > 1 {
						b[at-1] = 0x80 | byte(c) // the borrow of neither may spoil the other
					}
					if got, want := nextControl(b, 0), plain(b, 0); got != want {
						t.Fatalf("%q: %d, want %d", b, got, want)
					}
				}
			}
		}
	}
}
