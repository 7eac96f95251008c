package conformance

import (
	"fmt"
	"slices"
	"strings"
)

func connectionRows() []Row {
	const s = "RFC 9112 9.3"
	return []Row{
		{Section: s, Level: Must, Name: "HTTP/1.1 persists", Bytes: get("") + next, Want: want(hit, hit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "Connection: close", Bytes: get("Connection: close\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "Connection: close in any case", Bytes: get("cONNECTION: cLOSE\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "Connection: close in a list", Bytes: get("Connection: foo, close ,bar\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "Connection: close among empty members", Bytes: get("Connection: ,, close,\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "Connection: close in a second line", Bytes: get("Connection: foo\r\nConnection: close\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "close wins over keep-alive", Bytes: get("Connection: keep-alive, close\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "close before keep-alive", Bytes: get("Connection: close\r\nConnection: keep-alive\r\n") + next, Want: want(lastHit)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "close with a body", Bytes: post("Connection: close\r\nContent-Length: 3\r\n", "abc") + next, Want: want(lastHit)},
		{Section: s, Level: Must, Name: "HTTP/1.0 closes", Bytes: get10("") + next, Want: want(lastHit)},
		{Section: s, Level: May, Name: "HTTP/1.0 keep-alive", Bytes: get10("Connection: keep-alive\r\n") + next, Want: want(hit, hit)},
		{Section: s, Level: May, Name: "HTTP/1.0 keep-alive in any case", Bytes: get10("Connection: Keep-Alive\r\n") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "HTTP/1.0 keep-alive and close", Bytes: get10("Connection: keep-alive, close\r\n") + next, Want: want(lastHit)},
		{Section: s, Level: Must, Name: "HTTP/1.0 close before keep-alive in two lines", Bytes: get10("Connection: close\r\nConnection: keep-alive\r\n") + next, Want: want(lastHit)},
		{Section: s, Level: May, Name: "HTTP/1.0 keep-alive in a second line", Bytes: get10("Connection: foo\r\nConnection: ,keep-alive\r\n") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "HTTP/1.1 keep-alive", Bytes: get("Connection: keep-alive\r\n") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "close is a whole word", Bytes: get("Connection: closed, not-close, close-not\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 7.6.1", Level: Must, Name: "Connection names another field", Bytes: get("Connection: X\r\nX: a\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 7.6.1", Level: Must, Name: "Connection can't take Host away", Bytes: get("Connection: Host\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 7.6.1", Level: Must, Name: "Connection can't take Content-Length away", Bytes: post("Connection: Content-Length\r\nContent-Length: 3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 7.6.1", Level: Choice, Name: "Proxy-Connection means nothing", Bytes: get("Proxy-Connection: close\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 7.8", Level: May, Name: "Upgrade is ignored", Bytes: get("Connection: Upgrade\r\nUpgrade: websocket\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9113 3.1", Level: May, Name: "h2c upgrade is ignored", Bytes: get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9112 9.3.2", Level: Must, Name: "pipelined answers keep their order", Bytes: get("") + target("/count") + get("") + target("/count"), Want: want(hit, read, hit, read)},
		{Section: "RFC 9112 9.3.2", Level: Must, Name: "a bad request behind good ones", Bytes: get("") + target("/count") + "bad\r\n\r\n" + next, Want: want(hit, read, bad)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "nothing is read behind a bad request", Bytes: "GET / HTTP/1.1\r\n\r\n" + next, Want: want(bad)},
		{Section: "RFC 9112 9.6", Level: Must, Name: "nothing is read behind a bad body", Bytes: chunks("x\r\n") + next, Want: want(bad)},
		{Section: "RFC 9112 9.3.2", Level: Must, Name: "sixteen pipelined requests", Bytes: strings.Repeat(get(""), 16), Want: slices.Repeat(want(hit), 16)},
	}
}

func semanticsRows() []Row {
	const h, e, c = "RFC 9110 9.3.2", "RFC 9110 10.1.1", "counterd contract"
	headHit := Outcome{Status: 200, Head: true}
	headBad := Outcome{Status: 400, Head: true, Conn: Close}
	failed := Outcome{Status: 417, Conn: Either}
	rows := []Row{
		{Section: h, Level: Must, Name: "HEAD has no body", Bytes: line("HEAD / HTTP/1.1") + next, Want: want(headHit, hit)},
		{Section: h, Level: Must, Name: "HEAD /count reads", Bytes: line("HEAD /count HTTP/1.1") + next, Want: want(Outcome{Status: 200, Read: true, Head: true}, hit)},
		{Section: h, Level: Must, Name: "HEAD without Host has no body", Bytes: "HEAD / HTTP/1.1\r\n\r\n", Want: want(headBad)},
		{Section: h, Level: Must, Name: "HEAD with a bad target, behind an empty line, has no body", Bytes: "\r\n" + line("HEAD /# HTTP/1.1"), Want: want(headBad)},
		{Section: h, Level: Must, Name: "HEAD with a bad chunk has no body", Bytes: "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", Want: want(headBad)},
		{Section: "RFC 9110 9.3.8", Level: Choice, Name: "TRACE", Bytes: line("TRACE / HTTP/1.1"), Want: want(refused), Engine: true},
		{Section: "RFC 9110 9.3.8", Level: Choice, Name: "TRACE /count", Bytes: line("TRACE /count HTTP/1.1"), Want: want(refused), Engine: true},
		{Section: "RFC 9110 9.1", Level: Choice, Name: "trace is not TRACE", Bytes: line("trace / HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: c, Level: Choice, Name: "GET /count reads", Bytes: target("/count") + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count with a query reads", Bytes: target("/count?a=b") + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count with an empty query reads", Bytes: target("/count?") + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count with a query of an array reads", Bytes: target("/count?a[]=50%") + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count in absolute-form with empty Host reads", Bytes: "GET http://a/count HTTP/1.1\r\nHost:\r\n\r\n" + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count in absolute-form reads", Bytes: target("http://a/count") + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count in absolute-form with IPv6 reads", Bytes: target("http://[::1]:80/count?x") + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count with a body reads", Bytes: "GET /count HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + next, Want: want(read, hit)},
		{Section: c, Level: Choice, Name: "GET /count in HTTP/1.0 reads", Bytes: "GET /count HTTP/1.0\r\n\r\n", Want: want(Outcome{Status: 200, Read: true, Conn: Close})},
		{Section: "RFC 9110 15.5.6", Level: Must, Name: "POST /count with a body", Bytes: "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + next, Want: want(notMethod, hit), Engine: true},
		{Section: "RFC 9110 15.5.6", Level: Must, Name: "get /count in small letters", Bytes: line("get /count HTTP/1.1") + next, Want: want(notMethod, hit), Engine: true},
		{Section: e, Level: Must, Name: "Expect: 100-continue with the body", Bytes: post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: e, Level: Must, Name: "Expect: 100-continue in any case", Bytes: post("eXPECT: 100-cONTINUE\r\nContent-Length: 3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: e, Level: Must, Name: "Expect: 100-continue chunked", Bytes: post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") + next, Want: want(hit, hit)},
		{Section: e, Level: Must, Name: "Expect: 100-continue waits for the body", Bytes: post("Expect: 100-continue\r\nContent-Length: 3\r\n", ""), Want: want(Outcome{Status: 100}), Open: true, Engine: true},
		{Section: e, Level: Must, Name: "100 Continue comes after earlier answers", Bytes: get("") + post("Expect: 100-continue\r\nContent-Length: 3\r\n", ""), Want: want(hit, Outcome{Status: 100}), Open: true, Engine: true},
		{Section: e, Level: May, Name: "Expect: 100-continue without a body", Bytes: get("Expect: 100-continue\r\n") + next, Want: want(hit, hit)},
		{Section: e, Level: Must, Name: "Expect: 100-continue in HTTP/1.0 is ignored", Bytes: "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", Want: want(lastHit)},
		{Section: e, Level: Must, Name: "no 100 Continue for a bad request", Bytes: "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", Want: want(bad)},
		{Section: e, Level: Must, Name: "no 100 Continue for a body too large", Bytes: post("Expect: 100-continue\r\nContent-Length: 1048577\r\n", ""), Want: want(tooBig)},
		{Section: "RFC 9110 15.5.18", Level: May, Name: "unknown expectation", Bytes: get("Expect: a-miracle\r\n"), Want: want(failed), Engine: true},
		{Section: "RFC 9110 15.5.18", Level: May, Name: "unknown expectation in a list", Bytes: get("Expect: 100-continue, a-miracle\r\n"), Want: want(failed), Engine: true},
		{Section: "RFC 9110 15.5.18", Level: May, Name: "unknown expectation in a second line", Bytes: get("Expect: 100-continue\r\nExpect: a-miracle\r\n"), Want: want(failed), Engine: true},
		{Section: "RFC 9110 15.5.18", Level: May, Name: "100-continue with a parameter", Bytes: get("Expect: 100-continue;a=b\r\n"), Want: want(failed), Engine: true},
	}
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY"} {
		rows = append(rows, Row{Section: "RFC 9110 15.5.6", Level: Must, Name: m + " /count", Bytes: line(m+" /count HTTP/1.1") + next, Want: want(notMethod, hit), Engine: true})
	}
	for _, t := range []string{"/%63ount", "/count/", "//count", "/COUNT", "/counts", "/coun", "/count;a", "/./count", "/a/../count", "/count%3f", "/a?/count", "/count%", "/[count]", "/count\u00e9", "http://a/count/", "http://a", "http://a?/count", "http://count", "http://count/"} {
		rows = append(rows, Row{Section: c, Level: Choice, Name: "GET " + t + " is a hit", Bytes: target(t) + next, Want: want(hit, hit)})
	}
	return rows
}

// attackRows are what has set proxies and servers at odds over where a request
// ends.
func attackRows() []Row {
	const te, cl = "RFC 9112 6.3", "RFC 9110 8.6"
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	no := func(section, name, bytes string) Row {
		return Row{Section: section, Level: Must, Name: "attack: " + name, Bytes: bytes, Want: want(bad)}
	}
	ok := func(section, name, bytes string, outcomes ...Outcome) Row {
		return Row{Section: section, Level: Must, Name: "attack: " + name, Bytes: bytes, Want: outcomes}
	}
	rows := []Row{
		no(te, "CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled)),
		no(te, "TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "26\r\n"+smuggled+"\r\n0\r\n\r\n")),
		no(te, "TE.TE with a second coding", post("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", "0\r\n\r\n"+smuggled)),
		no(te, "TE.TE with an empty first line", post("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled)),
		no(cl, "CL.CL with an empty first line", post("Content-Length:\r\nContent-Length: 3\r\n", "abc")),
		no(cl, "CL.CL in a list", post("Content-Length: 0, 38\r\n", smuggled)),
		no(cl, "octal Content-Length", post("Content-Length: 0o3\r\n", "abc")),
		no(cl, "Content-Length with NUL behind the name", post("Content-Length\x00: 3\r\n", "abc")),
		no(cl, "Content-Length with a vertical tab before the number", post("Content-Length:\v3\r\n", "abc")),
		no(cl, "Content-Length with a no-break space", post("Content-Length: 3\xa0\r\n", "abc")),
		no(te, "Transfer-Encoding with a vertical tab before the name", post("\vTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding with a vertical tab behind the name", post("Transfer-Encoding\v: chunked\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding with a form feed before the value", post("Transfer-Encoding:\fchunked\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding with NUL before the value", post("Transfer-Encoding:\x00chunked\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding in quotes of another kind", post("Transfer-Encoding: `chunked`\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding in a folded line", post("X: y\r\n\tTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
		no("RFC 9112 5.1", "two colons before a name", get(":X: y\r\n")),
		no("RFC 9112 2.2", "LF CR for CRLF", "GET / HTTP/1.1\n\rHost: a\n\r\n\r"),
		no("RFC 9112 2.2", "bare CR CR ends the head", "GET / HTTP/1.1\r\nHost: a\r\r"+next),
		no("RFC 9112 7.1", "chunk size with a zero in front of x", chunks("0x0\r\n\r\n"+smuggled)),
		no("RFC 9112 7.1", "negative chunk size in hex", chunks("-ffffffff\r\n\r\n")),
		no("RFC 9112 7.1", "chunk data spills over", chunks("5\r\nabcdefg\r\n0\r\n\r\n")),
		no("RFC 9112 7.1", "chunk ended by two octets that are no CRLF", chunks("3\r\nabcXX0\r\n\r\n")),
		no("RFC 9112 7.1", "chunk ended by LF LF", chunks("3\r\nabc\n\n0\r\n\r\n")),
		no("RFC 9112 7.1.1", "LF in an extension hides a chunk", chunks("2;\nxx\r\n31\r\n0\r\n\r\n"+smuggled)),
		no("RFC 9112 7.1.1", "CR CR LF ends an extension", chunks("3;a\r\r\nabc\r\n0\r\n\r\n")),
		no("RFC 9112 7.1.1", "size alone behind a semicolon and space", chunks("3; \r\nabc\r\n0\r\n\r\n")),
		no("RFC 9110 6.5.1", "trailer repeats Transfer-Encoding", chunks("0\r\nTransfer-Encoding: chunked\r\n\r\n")),
		no("RFC 9112 3.2", "Host with a comma and another", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
		no("RFC 9112 3.2", "Host with a newline encoded as NEL", "GET / HTTP/1.1\r\nHost: a\x85\r\n\r\n"),
		no("RFC 9112 3.2.4", "M-SEARCH *", "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n"),
		no("RFC 9112 3", "absolute-form with a space in the host", "GET http://a b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
		no(te, "empty Transfer-Encoding with Content-Length", post("Transfer-Encoding:\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
		no(te, "identity with Content-Length", post("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
		no(te, "another coding and chunked with Content-Length", post("Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
		no(te, "chunked in a quoted parameter", post("Transfer-Encoding: x;a=\", chunked\"\r\n", "0\r\n\r\n")),
		no(te, "Transfer-Encoding in two lines", post("Transfer-\r\nEncoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
		no(te, "LF within Transfer-Encoding", post("Transfer-\nEncoding: chunked\r\n", "0\r\n\r\n")),
		no(cl, "space for the colon of Content-Length", post("Content-Length 3\r\n", "abc")),
		no(cl, "Content-Length with NEL behind the name", post("Content-Length\x85: 3\r\n", "abc")),
		no("RFC 9112 2.2", "CR and another octet for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\rZ"+next),
		no("RFC 9112 2.2", "LF before the version", "GET /\nHTTP/1.1\r\nHost: a\r\n\r\n"),
		no("RFC 9112 2.3", "version that overflows into 1.1", line("GET / HTTP/257.257")),
		no("RFC 9112 7.1", "empty line between chunks", chunks("3\r\nabc\r\n\r\n0\r\n\r\n")),
		no("RFC 9112 7.1", "size that is right up to an underscore", chunks("0_2e\r\n\r\n"+smuggled)),
		no("RFC 9112 7.1.1", "CR CR before an extension", chunks("2\r\r;a\r\n02\r\n0\r\n\r\n")),
		no("RFC 9112 7.1.1", "CR CR ends an extension", chunks("3;a=b\r\rabc\r\n0\r\n\r\n")),
		no("RFC 9112 7.1.1", "extension without semicolon", chunks("3 a=b\r\nabc\r\n0\r\n\r\n")),
		ok("RFC 9112 7.1.2", "trailer whose value is a request line", chunks("0\r\nX:GET /smuggled HTTP/1.1\r\n\r\n")+next, hit, hit),
		ok("RFC 9110 9.3.2", "HEAD whose body is a request", "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n"+smuggled+next, Outcome{Status: 200, Head: true}, hit),
		ok("RFC 9112 3.2.1", "target with encoded CRLF is a target", target("/a%0d%0aX:%20y")+next, hit, hit),
		ok(cl, "Content_Length is another field", post("Content_Length: 3\r\n", "")+next, hit, hit),
		ok(cl, "Content-Length of zeros", post("Content-Length: 00\r\n", "")+next, hit, hit),
		ok(cl, "Content-Length is decimal with zeros in front", post("Content-Length: 010\r\n", "0123456789")+next, hit, hit),
		ok(cl, "OPTIONS has a body", "OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"+next, hit, hit),
		ok("RFC 9112 6.3", "no body without length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n\r\n"+next, hit, hit),
		ok("RFC 9110 7.8", "WebSocket upgrade by POST", post("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", "")+next, hit, hit),
		ok("RFC 9110 14.2", "overlapping ranges", get("Range: bytes="+strings.Repeat("0-,", 500)+"0-\r\n")+next, hit, hit),
		ok("RFC 9112 7.1.1", "64 KiB of extension", chunks("1;"+strings.Repeat("a", 1<<16)+"\r\nx\r\n0\r\n\r\n")+next, hit, hit),
		ok("RFC 9112 7.1", "a thousand chunks of one octet", chunks(strings.Repeat("1\r\nx\r\n", 1000)+"0\r\n\r\n")+next, hit, hit),
		ok("RFC 9110 5.6.1", "a list of a thousand empty members", get("Connection: "+strings.Repeat(",", 1000)+"close\r\n")+next, lastHit),
		{Section: "RFC 9112 6.3", Level: Must, Name: "attack: body promised and not sent", Bytes: post("Content-Length: 1048576\r\n", ""), Open: true},
		{Section: "RFC 9110 15.5.14", Level: May, Name: "attack: chunks that together pass the limit", Bytes: chunks(strings.Repeat("1\r\nx\r\n", maxBody/6+1)), Want: want(tooBig)},
	}
	return rows
}

// Limits of the table: counterd's defaults.
const (
	maxHeader = 16384
	maxBody   = 1048576
)

func limitRows() []Row {
	const head, uri, body = "RFC 6585 5", "RFC 9110 15.5.15", "RFC 9110 15.5.14"
	// padded returns prefix + as many x as make the whole n bytes long + suffix.
	padded := func(prefix, suffix string, n int) string {
		return prefix + strings.Repeat("x", n-len(prefix)-len(suffix)) + suffix
	}
	const firstField = "GET / HTTP/1.1\r\nHost: a\r\nX: "
	const trail = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
	chunk := func(total int) string { // a chunked body of total bytes: one chunk of five hex digits and the last
		n := total - len("fffff\r\n\r\n0\r\n")
		return fmt.Sprintf("%05x\r\n%s\r\n0\r\n", n, strings.Repeat("x", n)) + "\r\n"
	}
	ext := func(total int) string { // a chunked body of one byte whose extension makes total
		n := total - len("1;\r\na\r\n0\r\n")
		return "1;" + strings.Repeat("x", n) + "\r\na\r\n0\r\n\r\n"
	}
	return []Row{
		{Section: head, Level: May, Name: "head of the limit", Bytes: padded(firstField, "\r\n\r\n", maxHeader) + next, Want: want(hit, hit)},
		{Section: head, Level: May, Name: "head of the limit and one", Bytes: padded(firstField, "\r\n\r\n", maxHeader+1), Want: want(fieldsBig)},
		{Section: head, Level: May, Name: "head of the limit behind an empty line", Bytes: "\r\n" + padded(firstField, "\r\n\r\n", maxHeader) + next, Want: want(hit, hit)},
		{Section: head, Level: May, Name: "fields without end", Bytes: firstField + strings.Repeat("x", 2*maxHeader), Want: want(fieldsBig)},
		{Section: head, Level: May, Name: "field name without end", Bytes: get("")[:len(get(""))-2] + strings.Repeat("x", 2*maxHeader), Want: want(fieldsBig)},
		{Section: head, Level: May, Name: "too many fields", Bytes: get("")[:len(get(""))-2] + strings.Repeat("a:\r\n", maxHeader/4), Want: want(fieldsBig)},
		{Section: head, Level: May, Name: "as many fields as fit", Bytes: "GET / HTTP/1.1\r\nHost: ab\r\n" + strings.Repeat("a:\r\n", (maxHeader-len("GET / HTTP/1.1\r\nHost: ab\r\n\r\n"))/4) + "\r\n" + next, Want: want(hit, hit)},
		{Section: uri, Level: Must, Name: "target of the limit", Bytes: padded("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n", maxHeader) + next, Want: want(hit, hit)},
		{Section: uri, Level: Must, Name: "target within the limit, fields beyond", Bytes: padded("GET /", " HTTP/1.1\r\n", maxHeader-1) + "Host: a\r\n\r\n", Want: want(fieldsBig)},
		{Section: uri, Level: Must, Name: "target too long", Bytes: padded("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n", 2*maxHeader), Want: want(tooLong)},
		{Section: uri, Level: Must, Name: "target without end", Bytes: "GET /" + strings.Repeat("x", 2*maxHeader), Want: want(tooLong)},
		{Section: "RFC 9112 3", Level: Should, Name: "method without end", Bytes: strings.Repeat("x", 2*maxHeader), Want: want(notImpl)},
		{Section: body, Level: May, Name: "Content-Length of the limit", Bytes: post(fmt.Sprintf("Content-Length: %d\r\n", maxBody), strings.Repeat("x", maxBody)) + next, Want: want(hit, hit)},
		{Section: body, Level: May, Name: "Content-Length of the limit and one", Bytes: post(fmt.Sprintf("Content-Length: %d\r\n", maxBody+1), ""), Want: want(tooBig)},
		{Section: body, Level: May, Name: "chunked body of the limit", Bytes: chunks(chunk(maxBody)) + next, Want: want(hit, hit)},
		{Section: body, Level: May, Name: "chunked body of the limit and one", Bytes: chunks(chunk(maxBody + 1)), Want: want(tooBig)},
		{Section: body, Level: May, Name: "chunk larger than the limit", Bytes: chunks("100001\r\n"), Want: want(tooBig)},
		{Section: "RFC 9112 7.1.1", Level: Must, Name: "chunk extension of the limit", Bytes: chunks(ext(maxBody)) + next, Want: want(hit, hit)},
		{Section: "RFC 9112 7.1.1", Level: Must, Name: "chunk extension of the limit and one", Bytes: chunks(ext(maxBody + 1)), Want: want(tooBig)},
		{Section: "RFC 9112 7.1.1", Level: Must, Name: "chunk extension without end", Bytes: chunks("1;" + strings.Repeat("x", maxBody)), Want: want(tooBig)},
		{Section: body, Level: May, Name: "chunk size of zeros without end", Bytes: chunks(strings.Repeat("0", maxBody+1)), Want: want(tooBig)},
		{Section: head, Level: May, Name: "trailer of the limit", Bytes: trail + padded("X: ", "\r\n\r\n", maxHeader) + next, Want: want(hit, hit)},
		{Section: head, Level: May, Name: "trailer of the limit and one", Bytes: trail + padded("X: ", "\r\n\r\n", maxHeader+1), Want: want(fieldsBig)},
		{Section: head, Level: May, Name: "trailer without end", Bytes: trail + strings.Repeat("x", maxHeader), Want: want(fieldsBig)},
		{Section: head, Level: May, Name: "too many trailer fields", Bytes: trail + strings.Repeat("a:\r\n", maxHeader/4), Want: want(fieldsBig)},
	}
}
