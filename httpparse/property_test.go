package httpparse_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/counterd/counterd/httpparse"
	"pgregory.net/rapid"
)

// The parts of a well-formed request.
var (
	genToken  = rapid.StringMatching("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}")
	genTarget = rapid.OneOf(
		rapid.StringMatching(`(/([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2}){0,12}){1,4}(\?([a-z=&/?]|%[0-9A-F]{2}){0,20})?`),
		rapid.Map(rapid.SliceOf(rapid.Byte().Filter(targetOctet)), func(b []byte) string { return "/" + string(b) }),
		rapid.StringMatching(`[hH]ttps?://([a-z0-9.-]{1,20}|\[::1\]|127\.0\.0\.1)(:[0-9]{0,4})?(/[a-z]{0,9})?(\?[a-z]{0,9})?`),
	)
	genHost  = rapid.StringMatching(`([a-zA-Z0-9._~-]{1,30}|\[2001:db8::[0-9a-f]{1,4}\])(:[0-9]{1,4})?`)
	genValue = rapid.StringMatching("([!-~\u00a1-\u00ff]([ \t!-~\u00a1-\u00ff]{0,40}[!-~\u00a1-\u00ff])?)?")
	genSpace = rapid.StringMatching("[ \t]{0,3}")
	genExt   = rapid.StringMatching(`([ \t]?;[ \t]?[a-z]{1,5}([ \t]?=[ \t]?([a-z0-9]{1,5}|"([ a-z;]|\\["\\]){0,6}"))?){0,2}`)
	genCase  = rapid.SampledFrom([]func(string) string{strings.ToLower, strings.ToUpper, strings.Clone})
)

// targetOctet reports whether a path or query may have c.
func targetOctet(c byte) bool { return c > ' ' && c != 0x7f && c != '#' }

// request draws a well-formed request and what it must be read as.
func request(t *rapid.T) (string, message) {
	var b strings.Builder
	m := message{
		method: genToken.Filter(func(s string) bool { return s != "CONNECT" }).Draw(t, "method"),
		target: genTarget.Draw(t, "target"),
		minor:  1,
		done:   true,
	}
	if rapid.IntRange(0, 4).Draw(t, "empty line") == 0 {
		b.WriteString("\r\n")
	}
	version := rapid.IntRange(0, 9).Draw(t, "minor")
	if version == 0 {
		m.minor = 0
		m.close = true
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.%d\r\n", m.method, m.target, version)

	line := func(name, value string) {
		name = genCase.Draw(t, "case")(name)
		fmt.Fprintf(&b, "%s:%s%s%s\r\n", name, genSpace.Draw(t, "space"), value, genSpace.Draw(t, "space"))
		m.fields = append(m.fields, field{name, value})
	}
	others := func() {
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			line("x-"+genToken.Draw(t, "name"), genValue.Draw(t, "value"))
		}
	}
	others()
	if m.target[0] == '/' {
		m.host = genHost.Draw(t, "host")
		line("Host", m.host)
	} else {
		line("Host", genValue.Draw(t, "ignored host"))
	}
	others()
	switch rapid.IntRange(0, 3).Draw(t, "connection") {
	case 0:
		line("Connection", "x, Close")
		m.close = true
	case 1:
		line("Connection", "Keep-Alive")
		m.close = false
	}
	m.path, m.host, m.form = splitTarget(m.target, m.host)

	switch body := rapid.IntRange(0, 2).Draw(t, "body"); {
	case body == 1:
		m.body = rapid.StringN(0, 50, 200).Draw(t, "content")
		m.length = int64(len(m.body))
		line("Content-Length", fmt.Sprintf("%0*d", rapid.IntRange(1, 5).Draw(t, "digits"), len(m.body)))
		others()
		b.WriteString("\r\n" + m.body)
	case body == 2 && m.minor > 0:
		m.length = -1
		line("Transfer-Encoding", genCase.Draw(t, "case")("Chunked"))
		others()
		b.WriteString("\r\n")
		for range rapid.IntRange(0, 4).Draw(t, "chunks") {
			chunk := rapid.StringN(1, 50, 200).Draw(t, "chunk")
			fmt.Fprintf(&b, "%0*x%s\r\n%s\r\n", rapid.IntRange(1, 5).Draw(t, "digits"), len(chunk), genExt.Draw(t, "extension"), chunk)
			m.body += chunk
		}
		b.WriteString("0\r\n")
		for range rapid.IntRange(0, 2).Draw(t, "trailers") {
			fmt.Fprintf(&b, "x-%s: %s\r\n", genToken.Draw(t, "name"), genValue.Draw(t, "value"))
		}
		b.WriteString("\r\n")
	default:
		others()
		b.WriteString("\r\n")
	}
	return b.String(), m
}

func splitTarget(target, field string) (path, host string, form httpparse.TargetForm) {
	path, _, _ = strings.Cut(target, "?")
	if target[0] == '/' {
		return path, field, httpparse.OriginForm
	}
	_, rest, _ := strings.Cut(path, "://")
	host, path, _ = strings.Cut(rest, "/")
	return "/" + path, host, httpparse.AbsoluteForm
}

// TestWellFormedRequests: requests drawn from the grammar, any number of them
// in one stream and cut anywhere, are read as they were meant.
func TestWellFormedRequests(t *testing.T) {
	p := httpparse.NewParser(httpparse.Limits{})
	rapid.Check(t, func(rt *rapid.T) {
		var stream string
		var want []message
		for range rapid.IntRange(1, 4).Draw(rt, "requests") {
			s, m := request(rt)
			stream += s
			m.end = len(stream)
			want = append(want, m)
		}
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(stream)), 0, 20).Draw(rt, "cuts")
		slices.Sort(cuts)
		got, err := read(t, p, []byte(stream), cuts)
		if err != nil {
			rt.Fatalf("%q: %v", stream, err)
		}
		for i := range got {
			got[i].head = 0 // not known beforehand
		}
		if !slices.EqualFunc(got, want, sameMessage) {
			rt.Fatalf("%q cut at %v\ngot  %+v\nwant %+v", stream, cuts, got, want)
		}
	})
}

// TestCheckTargetJudgesAsParser: any octets are judged as a Parser judges them in a request
// line.
func TestCheckTargetJudgesAsParser(t *testing.T) {
	p := httpparse.NewParser(httpparse.Limits{})
	gen := rapid.OneOf(
		genTarget,
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 20), func(b []byte) string { return string(b) }),
		rapid.StringMatching(`(/|https?://|\*|a)[a%#?:@\[\]/\x00-\xff]{0,8}`),
	)
	rapid.Check(t, func(rt *rapid.T) {
		target := gen.Draw(rt, "target")
		method := rapid.SampledFrom([]string{"GET", "OPTIONS", "CONNECT"}).Draw(rt, "method")
		path, err := httpparse.CheckTarget([]byte(method), []byte(target))
		stream := method + " " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"
		all, failure := read(t, p, []byte(stream), nil)
		if (err == nil) != (len(all) == 1 && failure == nil) {
			rt.Fatalf("%s %q: %v, but a Parser: %v", method, target, err, failure)
		}
		if err == nil && (all[0].target != target || all[0].path != string(path)) {
			rt.Fatalf("%s %q has path %q, but a Parser reads %+v", method, target, path, all[0])
		}
	})
}

// TestOneControlIsRefused: a request with one octet replaced by a control is refused or
// never complete, unless the octet was of a body.
func TestOneControlIsRefused(t *testing.T) {
	p := httpparse.NewParser(httpparse.Limits{})
	rapid.Check(t, func(rt *rapid.T) {
		stream, _ := request(rt)
		head := strings.Index(stream[2:], "\r\n\r\n") + 2 // behind an empty line at the start
		at := rapid.IntRange(0, head-1).Draw(rt, "at")
		octet := rapid.SampledFrom([]byte{0, 1, '\n', '\v', '\r', 0x1f, 0x7f}).Draw(rt, "octet")
		if stream[at] == octet || stream[at] == '\r' || stream[at] == '\n' {
			return
		}
		bad := stream[:at] + string([]byte{octet}) + stream[at+1:]
		if all, err := read(t, p, []byte(bad), nil); err == nil || len(all) > 0 {
			rt.Fatalf("%q is read as %+v: %v", bad, all, err)
		}
	})
}
