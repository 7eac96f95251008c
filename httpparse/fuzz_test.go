package httpparse_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/counterd/counterd/httpparse"
	"github.com/counterd/counterd/internal/conformance"
	"github.com/evanphx/wildcat"
	"github.com/valyala/fasthttp"
)

// field is a field line as read.
type field struct{ name, value string }

// message is all that a request came to.
type message struct {
	method, target, path, host string
	fields                     []field
	length                     int64
	minor                      uint8
	form                       httpparse.TargetForm
	expect                     httpparse.Expectation
	close                      bool
	body                       string
	head, end                  int // offsets in the stream, behind the head and behind the request
	done                       bool
}

// read feeds input in pieces that end at cuts and returns what it came to; the
// last message may not be done.
func read(t testing.TB, p *httpparse.Parser, input []byte, cuts []int) (all []message, failure *httpparse.Error) {
	t.Helper()
	var st httpparse.State
	pos := 0
	for _, cut := range append(slices.Clip(cuts), len(input)) {
		buf := input[pos:cut:cut]
		for {
			n, ev, err := p.Next(&st, buf)
			if n < 0 || n > len(buf) {
				t.Fatalf("consumed %d of %d bytes", n, len(buf))
			}
			if err != nil {
				want := httpparse.Reply{HEAD: asksByHead(all, input), Close: true}
				if got := st.Reply(); got != want {
					t.Fatalf("a refusal's reply is %+v, want %+v", got, want)
				}
				if _, _, again := p.Next(&st, buf); again != httpparse.ErrFailed || st.Reply() != want {
					t.Fatalf("after an error: %v, %+v", again, st.Reply())
				}
				return all, err.(*httpparse.Error)
			}
			buf = buf[n:]
			pos += n
			switch ev {
			case httpparse.Head:
				all = append(all, describe(t, p.Request(), pos))
			case httpparse.Data:
				if len(p.Data()) == 0 {
					t.Fatal("Data without data")
				}
				all[len(all)-1].body += string(p.Data())
			case httpparse.End:
				all[len(all)-1].done = true
			case httpparse.NeedMore:
				if n == 0 && len(buf) > 0 && st.InBody() && len(buf) > 1<<16 {
					t.Fatal("a body must not gather")
				}
			}
			if len(all) > 0 && ev != httpparse.NeedMore {
				m := &all[len(all)-1]
				if got, want := st.Reply(), (httpparse.Reply{HEAD: m.method == "HEAD", HTTP10: m.minor == 0, Close: m.close}); got != want {
					t.Fatalf("at %v the reply is %+v, want %+v", ev, got, want)
				}
				if m.done {
					m.end = pos
				}
			}
			if ev == httpparse.NeedMore {
				break
			}
		}
	}
	return all, nil
}

// asksByHead reports whether the request that follows those in all, or the last of
// them if it isn't done, begins as one of HEAD.
func asksByHead(all []message, input []byte) bool {
	start := 0
	if len(all) > 0 {
		m := all[len(all)-1]
		if !m.done {
			return m.method == "HEAD"
		}
		start = m.end
	}
	return bytes.HasPrefix(bytes.TrimPrefix(input[start:], []byte("\r\n")), []byte("HEAD "))
}

func describe(t testing.TB, r *httpparse.Request, pos int) message {
	t.Helper()
	m := message{
		method: string(r.Method), target: string(r.Target), path: string(r.Path), host: string(r.Host),
		length: r.ContentLength, minor: r.Minor, form: r.TargetForm, expect: r.Expect, close: r.Close,
		head: pos, done: !r.HasBody,
	}
	for name, value := range r.Fields() {
		m.fields = append(m.fields, field{string(name), string(value)})
	}
	if len(m.fields) != r.NumFields() {
		t.Fatalf("%d fields of %d", len(m.fields), r.NumFields())
	}
	if string(r.Method) != m.method || string(r.Host) != m.host || string(r.Target) != m.target || string(r.Path) != m.path {
		t.Fatal("reading the fields changed the request")
	}
	return m
}

func addSeeds(f *testing.F, add func(input string)) {
	for _, row := range conformance.Rows {
		if len(row.Bytes) < 400 {
			add(row.Bytes)
		}
	}
	add(wrkRequest)
	add(browserRequest)
}

// FuzzSegmentation: the pieces in which a stream arrives change nothing. The
// bytes of pieces are their lengths.
func FuzzSegmentation(f *testing.F) {
	addSeeds(f, func(input string) { f.Add([]byte(input), []byte{3, 1, 7}) })
	limits := []httpparse.Limits{{}, {MaxHeaderBytes: 64, MaxBodyBytes: 16}}
	f.Fuzz(func(t *testing.T, input, pieces []byte) {
		for _, l := range limits {
			p := httpparse.NewParser(l)
			whole, failure := read(t, p, input, nil)
			for _, cuts := range [][]int{fuzzedCuts(len(input), pieces), everyByte(string(input))} {
				got, err := read(t, p, input, cuts)
				if err != failure || !slices.EqualFunc(got, whole, sameMessage) {
					t.Fatalf("%+v cut at %v:\n%+v %v\nwhole:\n%+v %v", l, cuts, got, err, whole, failure)
				}
			}
		}
	})
}

func sameMessage(a, b message) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func fuzzedCuts(length int, pieces []byte) (cuts []int) {
	at := 0
	for i := 0; len(pieces) > 0 && i < 10000; i++ {
		at += 1 + int(pieces[i%len(pieces)])
		if at >= length {
			break
		}
		cuts = append(cuts, at)
	}
	return cuts
}

// FuzzWildcat: what the gate lets through, wildcat reads as a reader does who
// only splits at CRLF, spaces and colons; a tokenizer fresh from the factory
// agrees with the one that is reused.
func FuzzWildcat(f *testing.F) {
	addSeeds(f, func(input string) { f.Add([]byte(input)) })
	reused := httpparse.NewParser(httpparse.Limits{})
	f.Fuzz(func(t *testing.T, input []byte) {
		all, _ := read(t, reused, input, nil)
		start := 0
		for _, m := range all {
			head := bytes.TrimPrefix(input[start:m.head], []byte("\r\n"))
			start = m.end
			checkHead(t, m, string(head))
			w := wildcat.NewHTTPParser()
			n, err := w.Parse(head)
			if err != nil || n != len(head) || string(w.Method) != m.method || string(w.Path) != m.target {
				t.Fatalf("wildcat reads %q as %q %q: %v", head, w.Method, w.Path, err)
			}
			for i, want := range m.fields {
				got := w.Headers[i]
				if string(got.Name) != want.name || strings.Trim(string(got.Value), " \t\r") != want.value {
					t.Fatalf("wildcat reads field %d of %q as %q: %q", i, head, got.Name, got.Value)
				}
			}
			if w.Headers[len(m.fields)].Name != nil {
				t.Fatalf("wildcat finds more fields in %q", head)
			}
		}
	})
}

// checkHead reads head the simple way and compares.
func checkHead(t *testing.T, m message, head string) {
	t.Helper()
	lines := strings.Split(head, "\r\n")
	if len(lines) < 3 || lines[len(lines)-1] != "" || lines[len(lines)-2] != "" {
		t.Fatalf("head %q", head)
	}
	words := strings.Split(lines[0], " ")
	if len(words) != 3 || words[0] != m.method || words[1] != m.target || words[2][:7] != "HTTP/1." {
		t.Fatalf("request line %q read as %+v", lines[0], m)
	}
	if strings.ContainsAny(head, "\x00\x7f") || strings.Count(head, "\r") != len(lines)-1 || strings.Count(head, "\n") != len(lines)-1 {
		t.Fatalf("head %q", head)
	}
	var fields []field
	for _, line := range lines[1 : len(lines)-2] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			t.Fatalf("field line %q", line)
		}
		fields = append(fields, field{name, strings.Trim(value, " \t")})
	}
	if !slices.Equal(fields, m.fields) {
		t.Fatalf("fields of %q read as %q", head, m.fields)
	}
}

// FuzzDifferential: where net/http or fasthttp accepts what httpparse accepts,
// it finds the same requests with the same boundaries. Where they disagree
// httpparse is the one that refuses, but for the exceptions below.
func FuzzDifferential(f *testing.F) {
	addSeeds(f, func(input string) { f.Add([]byte(input)) })
	p := httpparse.NewParser(httpparse.Limits{})
	f.Fuzz(func(t *testing.T, input []byte) {
		all, _ := read(t, p, input, nil)
		start := 0
		for _, m := range all {
			if !m.done {
				break
			}
			request := input[start:m.end]
			rest := input[start:]
			start = m.end
			// The empty line before a request is ours to skip.
			request, rest = bytes.TrimPrefix(request, []byte("\r\n")), bytes.TrimPrefix(rest, []byte("\r\n"))
			other, err := readNetHTTP(rest)
			compare(t, "net/http", m, request, other, err, netHTTPRefuses)
			other, err = readFasthttp(rest)
			compare(t, "fasthttp", m, request, other, err, fasthttpRefuses)
		}
	})
}

// reading is what another parser makes of a request.
type reading struct {
	method, target, body string
	size                 int
}

func compare(t *testing.T, who string, m message, request []byte, other reading, err error, mayRefuse func(message, string, error) bool) {
	t.Helper()
	if err != nil {
		if !mayRefuse(m, string(request), err) {
			t.Fatalf("%s refuses %q: %v", who, request, err)
		}
		return
	}
	want := reading{m.method, m.target, m.body, len(request)}
	if other != want {
		t.Fatalf("%s reads %q as %+v, want %+v", who, request, other, want)
	}
}

func readNetHTTP(stream []byte) (reading, error) {
	src := bytes.NewReader(stream)
	br := bufio.NewReader(src)
	r, err := http.ReadRequest(br)
	if err != nil {
		return reading{}, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return reading{}, err
	}
	return reading{r.Method, r.RequestURI, string(body), len(stream) - src.Len() - br.Buffered()}, nil
}

func readFasthttp(stream []byte) (reading, error) {
	src := bytes.NewReader(stream)
	br := bufio.NewReaderSize(src, 1<<16)
	var r fasthttp.Request
	if err := r.Read(br); err != nil {
		return reading{}, err
	}
	if r.MayContinue() {
		if err := r.ContinueReadBody(br, 0); err != nil {
			return reading{}, err
		}
	}
	return reading{string(r.Header.Method()), string(r.Header.RequestURI()), string(r.Body()), len(stream) - src.Len() - br.Buffered()}, nil
}

// The exceptions: what we accept because RFC 9112 wants it, and others refuse.

// netHTTPRefuses reports whether net/http is known to refuse what we accept.
func netHTTPRefuses(m message, request string, err error) bool {
	// It wants two hex digits behind a '%' of a path, and knows no other '%' in
	// a host than that of a zone.
	var escape url.EscapeError
	return errors.As(err, &escape) || m.length == -1 && unusualChunks(request)
}

// fasthttpRefuses reports whether fasthttp is known to refuse what we accept.
func fasthttpRefuses(m message, request string, err error) bool {
	if m.form == httpparse.AbsoluteForm && m.ignoredHost() == "" {
		return true // it wants a Host even where the target overrides it
	}
	// It knows chunked in HTTP/1.1 only, not in the later ones read as 1.1.
	line, _, _ := strings.Cut(request, "\r\n")
	return m.length == -1 && (unusualChunks(request) || !strings.HasSuffix(line, " HTTP/1.1"))
}

// ignoredHost is the Host field that stands beside an absolute-form.
func (m *message) ignoredHost() string {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, "host") {
			return f.value
		}
	}
	return ""
}

// unusualChunks reports whether a chunked body has what others have no room for:
// a size with many leading zeros, or whitespace before an extension.
func unusualChunks(request string) bool {
	_, body, _ := strings.Cut(request, "\r\n\r\n")
	return strings.Contains(body, "00000000") || strings.Contains(body, " ;") || strings.Contains(body, "\t;")
}
