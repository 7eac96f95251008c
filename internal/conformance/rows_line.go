package conformance

import "fmt"

func messageRows() []Row {
	const s21, s22 = "RFC 9112 2.1", "RFC 9112 2.2"
	return []Row{
		{Section: s21, Level: Must, Name: "simplest request", Bytes: get("") + next, Want: want(hit, hit)},
		{Section: s21, Level: Must, Name: "request without fields in HTTP/1.0", Bytes: get10(""), Want: want(lastHit)},
		{Section: s21, Level: Must, Name: "three requests in one segment", Bytes: get("") + get("") + next, Want: want(hit, hit, hit)},
		{Section: s22, Level: Should, Name: "empty line before request line", Bytes: "\r\n" + get("") + next, Want: want(hit, hit)},
		{Section: s22, Level: Should, Name: "empty line between requests", Bytes: get("") + "\r\n" + next, Want: want(hit, hit)},
		{Section: s22, Level: Should, Name: "empty line after a body", Bytes: post("Content-Length: 2\r\n", "ab") + "\r\n" + next, Want: want(hit, hit)},
		{Section: s22, Level: Choice, Name: "two empty lines before request line", Bytes: "\r\n\r\n" + get(""), Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare LF before request line", Bytes: "\n" + get(""), Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare CR before request line", Bytes: "\r" + get(""), Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare LF after request line", Bytes: "GET / HTTP/1.1\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare LF after field line", Bytes: "GET / HTTP/1.1\r\nHost: a\n\r\n", Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare LF as the empty line", Bytes: "GET / HTTP/1.1\r\nHost: a\r\n\n", Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare LF throughout", Bytes: "GET / HTTP/1.1\nHost: a\n\n", Want: want(bad)},
		{Section: s22, Level: Choice, Name: "bare LF hides a field", Bytes: get("X: a\nTransfer-Encoding: chunked\r\n"), Want: want(bad)},
		{Section: s22, Level: Must, Name: "bare CR in request line", Bytes: "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "bare CR ends request line", Bytes: "GET / HTTP/1.1\rHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "bare CR in field value", Bytes: get("X: a\rb\r\n"), Want: want(bad)},
		{Section: s22, Level: Must, Name: "bare CR hides a field", Bytes: get("X: a\rTransfer-Encoding: chunked\r\n"), Want: want(bad)},
		{Section: s22, Level: Must, Name: "CR CR LF ends field line", Bytes: get("X: a\r\r\n"), Want: want(bad)},
		{Section: s22, Level: Must, Name: "CR CR LF ends request line", Bytes: "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "CR in field name", Bytes: get("X\rY: a\r\n"), Want: want(bad)},
		{Section: s22, Level: Must, Name: "CR before the empty line", Bytes: "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "space before first field line", Bytes: "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "tab before first field line", Bytes: "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "line of spaces before first field line", Bytes: "GET / HTTP/1.1\r\n  \r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Choice, Name: "TLS ClientHello", Bytes: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Want: want(bad)},
		{Section: s22, Level: Should, Name: "NUL first", Bytes: "\x00\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Should, Name: "SSH banner", Bytes: "SSH-2.0-OpenSSH_9.2\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Should, Name: "HAProxy PROXY line", Bytes: "PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n" + next, Want: want(bad)},
		{Section: s22, Level: Should, Name: "byte order mark", Bytes: "\xef\xbb\xbf" + get(""), Want: want(bad)},
		{Section: s22, Level: Should, Name: "a response", Bytes: "HTTP/1.1 200 OK\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "UTF-16 request", Bytes: "G\x00E\x00T\x00 \x00/\x00 \x00\r\n\r\n", Want: want(bad)},
		{Section: s22, Level: Must, Name: "multibyte LF is no line end", Bytes: get("X: \u560a\u010a\u010d\r\n") + next, Want: want(hit, hit)},
	}
}

func versionRows() []Row {
	const s = "RFC 9112 2.3"
	rows := []Row{
		{Section: s, Level: Must, Name: "HTTP/1.1", Bytes: line("GET / HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "HTTP/1.0", Bytes: line("GET / HTTP/1.0") + next, Want: want(lastHit)},
		{Section: "RFC 9110 2.5", Level: Should, Name: "HTTP/1.2 is read as 1.1", Bytes: line("GET / HTTP/1.2") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 2.5", Level: Should, Name: "HTTP/1.9 is read as 1.1", Bytes: line("GET / HTTP/1.9") + next, Want: want(hit, hit)},
		{Section: "RFC 9112 3.2", Level: Must, Name: "HTTP/1.2 needs Host", Bytes: "GET / HTTP/1.2\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9113 3.4", Level: Should, Name: "HTTP/2 preface", Bytes: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Want: want(version)},
		{Section: "RFC 9112 2.3", Level: Must, Name: "malformed version wins over major version", Bytes: line("GET / HTTP/2.00"), Want: want(bad)},
	}
	for _, v := range []string{"HTTP/0.9", "HTTP/0.0", "HTTP/2.0", "HTTP/2.1", "HTTP/3.0", "HTTP/9.9"} {
		rows = append(rows, Row{Section: "RFC 9110 15.6.6", Level: Should, Name: "version " + v, Bytes: line("GET / " + v), Want: want(version)})
	}
	for _, v := range []string{
		"http/1.1", "Http/1.1", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/", "HTTP", "HTTP/11.1", "HTTP/1.10", "HTTP/01.1",
		"HTTP/1.01", "HTTP/1,1", "HTTP/1.x", "HTTP/x.1", "HTTP/+1.1", "HTTP/-1.1", "HTTP//1.1", "HTTP1.1", "HTTPS/1.1",
		"HTT/1.1", "ICY/1.1", "RTSP/1.0", "HTTP-1.1", "HTTP/1.1a", "HTTP/1.1/", "HTTP/1.1.1", "XHTTP/1.1", "1.1",
		"HTTP/\uff11.1",
	} {
		rows = append(rows, Row{Section: s, Level: Must, Name: fmt.Sprintf("version %q", v), Bytes: line("GET / " + v), Want: want(bad)})
	}
	return rows
}

func requestLineRows() []Row {
	const s = "RFC 9112 3"
	var rows []Row
	for _, l := range []struct{ name, line string }{
		{"HTTP/0.9 request", "GET /"},
		{"method alone", "GET"},
		{"method and space", "GET "},
		{"no target", "GET HTTP/1.1"},
		{"empty target", "GET  HTTP/1.1"},
		{"no method", " / HTTP/1.1"},
		{"target first", "/ HTTP/1.1"},
		{"leading space", " GET / HTTP/1.1"},
		{"leading tab", "\tGET / HTTP/1.1"},
		{"two spaces before target", "GET  / HTTP/1.1"},
		{"two spaces before version", "GET /  HTTP/1.1"},
		{"trailing space", "GET / HTTP/1.1 "},
		{"trailing tab", "GET / HTTP/1.1\t"},
		{"tab before target", "GET\t/ HTTP/1.1"},
		{"tab before version", "GET /\tHTTP/1.1"},
		{"tabs for spaces", "GET\t/\tHTTP/1.1"},
		{"form feed before target", "GET\f/ HTTP/1.1"},
		{"vertical tab before version", "GET /\vHTTP/1.1"},
		{"no-break space before version", "GET /\u00a0HTTP/1.1"},
		{"space in target", "GET /a b HTTP/1.1"},
		{"fourth word", "GET / HTTP/1.1 x"},
		{"version twice", "GET / HTTP/1.1 HTTP/1.1"},
		{"only a space", " "},
	} {
		rows = append(rows, Row{Section: s, Level: Should, Name: "request line: " + l.name, Bytes: line(l.line), Want: want(bad)})
	}
	return rows
}

func methodRows() []Row {
	const s = "RFC 9110 9.1"
	rows := []Row{
		{Section: s, Level: Choice, Name: "a method is case-sensitive", Bytes: line("get / HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 5.6.2", Level: Must, Name: "method of every token character", Bytes: line("!#$%&'*+-.^_`|~09AZaz / HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: s, Level: Choice, Name: "method of one letter", Bytes: line("Q / HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "method with NUL", Bytes: line("GE\x00T / HTTP/1.1"), Want: want(bad)},
		{Section: s, Level: Must, Name: "method with DEL", Bytes: line("GE\x7fT / HTTP/1.1"), Want: want(bad)},
		{Section: s, Level: Must, Name: "method with obs-text", Bytes: line("G\xc9T / HTTP/1.1"), Want: want(bad)},
		{Section: s, Level: Must, Name: "PRI without HTTP/2", Bytes: line("PRI * HTTP/1.1"), Want: want(bad)},
	}
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "PROPFIND", "M-SEARCH", "BREW"} {
		rows = append(rows, Row{Section: s, Level: Choice, Name: "method " + m, Bytes: line(m+" / HTTP/1.1") + next, Want: want(hit, hit)})
	}
	for _, c := range `"(),/:;<=>?@[\]{}` {
		rows = append(rows, Row{Section: "RFC 9110 5.6.2", Level: Must, Name: fmt.Sprintf("method with %q", c),
			Bytes: line(fmt.Sprintf("GE%cT / HTTP/1.1", c)), Want: want(bad)})
	}
	return rows
}

func targetRows() []Row {
	const s, origin, absolute, authority, asterisk = "RFC 9112 3.2", "RFC 9112 3.2.1", "RFC 9112 3.2.2", "RFC 9112 3.2.3", "RFC 9112 3.2.4"
	const uri = "RFC 3986 3.3"
	ok := func(section, level, name, t string) Row {
		return Row{Section: section, Level: level, Name: name, Bytes: target(t) + next, Want: want(hit, hit)}
	}
	no := func(section, level, name, t string) Row {
		return Row{Section: section, Level: level, Name: name, Bytes: target(t), Want: want(bad)}
	}
	rows := []Row{
		ok(origin, Must, "target with path", "/a/b/c"),
		ok(origin, Must, "target with query", "/a?b=c&d=e"),
		ok(origin, Must, "target with empty query", "/?"),
		ok(origin, Must, "target with question marks in the query", "/a?b?c??"),
		ok(origin, Must, "target with empty segments", "//a//b/"),
		ok(uri, Must, "target of every path character", "/-._~!$&'()*+,;=:@09AZaz?-._~!$&'()*+,;=:@/?"),
		ok(uri, Must, "target with percent-encoding", "/%41%c3%a9%00%0d%0a%2F"),
		ok(uri, Must, "target with dot segments", "/a/./b/../../../c"),
		ok(origin, Must, "target longer than eight bytes at a time", "/0123456789abcdefghijklmnopqrstuvwxyz0123456789"),
		ok(s, Choice, "target with bad percent-encoding", "/%zz"),
		ok(s, Choice, "target with half a percent-encoding", "/%4"),
		ok(s, Choice, "target with a lone percent sign", "/%"),
		ok(s, Choice, "target with a percent sign behind digits", "/50%"),
		ok(s, Choice, "target with second digit bad", "/%4g"),
		ok(s, Choice, "target with two percent signs", "/%%41"),
		ok(s, Choice, "query with half a percent-encoding", "/?%4"),
		ok(s, Choice, "query with a lone percent sign", "/?q=50%"),
		ok(s, Choice, "query of an array", "/?a[]=1"),
		ok(s, Choice, "query of braces, bar, caret and backquote", "/?f={x}|y^z`"),
		ok(s, Choice, "query with UTF-8", "/?q=\u00f6"),
		ok(s, Choice, "path with brackets", "/%7Bx%7D%7Cy%5E%60[z]"),
		ok(s, Choice, "path of JSON", `/x/{"gcVg":"2.2.2.0","dID":"1314"}`),
		ok(s, Choice, "target with UTF-8", "/\u00e9"),
		ok(s, Choice, "target with byte 80", "/\x80"),
		ok(s, Choice, "target with byte FF", "/\xff"),
		ok(s, Choice, "target with NEL and no-break space", "/\x85\xa0"),
		ok(s, Choice, "target with UTF-8 behind eight bytes", "/abcdefgh\u00e9"),
		ok(s, Choice, "target in overlong UTF-8", "/\xc0\xaf"),
		ok(s, Choice, "target with letters whose low octets are CR and LF", "/\u010d\u010a"),
		no(s, Should, "target with fragment", "/a#b"),
		no(s, Should, "target that ends in a number sign", "/#"),
		no(s, Should, "query with fragment", "/?a#b"),
		no(s, Should, "number sign behind eight bytes", "/abcdefgh#"),
		no(s, Should, "target with NUL", "/\x00"),
		no(s, Should, "target with control byte", "/\x1f"),
		no(s, Should, "target with DEL", "/\x7f"),
		no(s, Should, "target with DEL behind eight bytes", "/abcdefgh\x7f"),
		no(s, Should, "query with DEL", "/?a\x7f"),
		no(s, Should, "query with tab", "/?a\tb"),
		no(s, Must, "target without slash", "a"),
		no(s, Must, "target with query only", "?a"),
		no(s, Must, "target with dot", "./a"),
		no(s, Must, "target with backslash first", "\\a"),
		no(s, Must, "target in brackets", "[::1]"),
		no(s, Must, "target that is a percent-encoded slash", "%2f"),

		ok(absolute, Must, "absolute-form", "http://a/b?c"),
		ok(absolute, Must, "absolute-form without path", "http://a"),
		ok(absolute, Must, "absolute-form with query and no path", "http://a?b"),
		ok(absolute, Must, "absolute-form with port", "http://a:8080/"),
		ok(absolute, Must, "absolute-form with empty port", "http://a:/"),
		ok(absolute, Must, "absolute-form with IPv4", "http://127.0.0.1/"),
		ok(absolute, Must, "absolute-form with IPv6", "http://[::1]/"),
		ok(absolute, Must, "absolute-form with IPv6 and port", "http://[2001:db8::1]:80/"),
		ok(absolute, Must, "absolute-form with https", "https://a/"),
		ok(absolute, Must, "absolute-form scheme in capitals", "HTTP://a/"),
		ok(absolute, Must, "absolute-form disagrees with Host", "http://b/"),
		{Section: absolute, Level: Must, Name: "absolute-form in HTTP/1.0 without Host", Bytes: "GET http://a/ HTTP/1.0\r\n\r\n", Want: want(lastHit)},
		{Section: "RFC 9112 3.2", Level: Must, Name: "absolute-form without Host", Bytes: "GET http://a/ HTTP/1.1\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9112 3.2", Level: Must, Name: "absolute-form with two Hosts", Bytes: "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9112 3.2", Level: Must, Name: "absolute-form with two Hosts, both empty", Bytes: "GET http://a/ HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9112 3.2", Level: Must, Name: "absolute-form with two Hosts in HTTP/1.0", Bytes: "GET http://a/ HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: absolute, Level: Must, Name: "absolute-form with empty Host", Bytes: "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n" + next, Want: want(hit, hit)},
		{Section: absolute, Level: Must, Name: "absolute-form with Host of whitespace", Bytes: "GET http://a/ HTTP/1.1\r\nHost: \t \r\n\r\n" + next, Want: want(hit, hit)},
		{Section: absolute, Level: Must, Name: "absolute-form with Host of a port", Bytes: "GET http://a/ HTTP/1.1\r\nHost: :80\r\n\r\n" + next, Want: want(hit, hit)},
		{Section: absolute, Level: Must, Name: "absolute-form with bad Host", Bytes: "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n" + next, Want: want(hit, hit)},
		{Section: absolute, Level: Must, Name: "absolute-form with bad Host among other fields", Bytes: "GET http://a/ HTTP/1.1\r\nX: y\r\nHost: a,b\r\nConnection: keep-alive\r\n\r\n" + next, Want: want(hit, hit)},
		{Section: "RFC 9110 5.5", Level: Must, Name: "absolute-form with control byte in Host", Bytes: "GET http://a/ HTTP/1.1\r\nHost: a\x01b\r\n\r\n", Want: want(bad)},
		no("RFC 9110 4.2.1", Must, "absolute-form without host", "http:///a"),
		no("RFC 9110 4.2.1", Must, "absolute-form with nothing", "http://"),
		no("RFC 9110 4.2.1", Must, "absolute-form with port only", "http://:80/"),
		no("RFC 9110 4.2.1", Must, "absolute-form with query only", "http://?a"),
		no("RFC 9110 4.2.4", Should, "absolute-form with user information", "http://user@a/"),
		no("RFC 9110 4.2.4", Should, "absolute-form with user and password", "http://user:pass@a/"),
		no(absolute, Must, "absolute-form with bad port", "http://a:b/"),
		no(absolute, Must, "absolute-form with port out of range", "http://a:65536/"),
		no(absolute, Must, "absolute-form with unclosed bracket", "http://[::1/"),
		no(absolute, Must, "absolute-form with bad IPv6", "http://[1:2:3]/"),
		no(absolute, Must, "absolute-form with fragment", "http://a/#b"),
		no(absolute, Must, "absolute-form with fragment and no path", "http://a#b"),
		no(absolute, Must, "absolute-form with bad percent-encoding in authority", "http://a%4/"),
		no(absolute, Must, "absolute-form with UTF-8 in authority", "http://\u00e9/"),
		no(absolute, Must, "absolute-form with comma in authority", "http://a,b/"),
		ok(absolute, Choice, "absolute-form with what else a path and query may have", "http://a/[]{}|^%?\\%4\u00e9"),
		no(absolute, Must, "absolute-form with one slash", "http:/a"),
		no(absolute, Must, "absolute-form with backslash in authority", "http://a\\b/"),
		no(absolute, Choice, "absolute-form of another scheme", "ftp://a/"),
		no(absolute, Choice, "absolute-form of a scheme without authority", "urn:a:b"),

		{Section: authority, Level: Must, Name: "authority-form without CONNECT", Bytes: target("a:80"), Want: want(bad)},
		{Section: authority, Level: Must, Name: "authority-form with IPv6 without CONNECT", Bytes: target("[::1]:80"), Want: want(bad)},
		{Section: authority, Level: Must, Name: "CONNECT", Bytes: "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", Want: want(refused), Engine: true},
		{Section: authority, Level: Must, Name: "CONNECT with IPv6", Bytes: "CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Want: want(refused), Engine: true},
		{Section: authority, Level: Must, Name: "CONNECT in origin-form", Bytes: "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: authority, Level: Must, Name: "CONNECT in absolute-form", Bytes: "CONNECT http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: authority, Level: Must, Name: "CONNECT in asterisk-form", Bytes: "CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9110 9.3.6", Level: Must, Name: "CONNECT without port", Bytes: "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9110 9.3.6", Level: Must, Name: "CONNECT with empty port", Bytes: "CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9110 9.3.6", Level: Must, Name: "CONNECT with port 0", Bytes: "CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9110 9.3.6", Level: Must, Name: "CONNECT with port 65536", Bytes: "CONNECT a:65536 HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9110 9.3.6", Level: Must, Name: "CONNECT without host", Bytes: "CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n", Want: want(bad)},

		{Section: asterisk, Level: Must, Name: "OPTIONS *", Bytes: line("OPTIONS * HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: asterisk, Level: Must, Name: "OPTIONS * in HTTP/1.0", Bytes: "OPTIONS * HTTP/1.0\r\n\r\n", Want: want(lastHit)},
		{Section: asterisk, Level: Must, Name: "OPTIONS of a path", Bytes: line("OPTIONS /a HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: asterisk, Level: Must, Name: "OPTIONS in absolute-form", Bytes: line("OPTIONS http://a HTTP/1.1") + next, Want: want(hit, hit)},
		{Section: asterisk, Level: Must, Name: "GET *", Bytes: target("*"), Want: want(bad)},
		{Section: asterisk, Level: Must, Name: "OPTIONS **", Bytes: line("OPTIONS ** HTTP/1.1"), Want: want(bad)},
		{Section: asterisk, Level: Must, Name: "OPTIONS *?a", Bytes: line("OPTIONS *?a HTTP/1.1"), Want: want(bad)},
		{Section: asterisk, Level: Must, Name: "options *", Bytes: line("options * HTTP/1.1"), Want: want(bad)},
	}
	for _, c := range "<>\"{}|\\^`[]" {
		rows = append(rows,
			ok(s, Choice, fmt.Sprintf("target with %q", c), fmt.Sprintf("/a%cb", c)),
			ok(s, Choice, fmt.Sprintf("query with %q", c), fmt.Sprintf("/?a%cb", c)))
	}
	return rows
}

func hostRows() []Row {
	const s, h = "RFC 9112 3.2", "RFC 9110 7.2"
	var rows []Row
	for _, v := range []string{
		"a", "example.com", "example.com.", "example.com:80", "example.com:", "a:0", "a:65535", "a:00080", "127.0.0.1", "127.0.0.1:8080",
		"[::1]", "[::1]:80", "[::1]:", "[::]", "[2001:db8::1]", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]", "[::2:3:4:5:6:7:8]",
		"[::ffff:192.0.2.1]", "[1:2:3:4:5:6:192.0.2.1]", "[v1.a:b]", "a_b", "a-b", "1", "%41b", "a!$&'()*+;=~", "999.999.999.999",
	} {
		rows = append(rows, Row{Section: h, Level: Must, Name: fmt.Sprintf("Host %q", v), Bytes: host(v) + next, Want: want(hit, hit)})
	}
	for _, v := range []string{
		"a b", "a,b", "a, b", "a,\tb", "a/", "/a", "http://a", "a?b", "a#b", "user@a", "@a", "a@", "a:b", "a:8o", "a:80:80", "a:-1", "a:+80", "a: 80", "a :80", "a:65536",
		"a:99999999999999999999", ":80", ":", "[::1", "::1]", "::1", "[]", "[:]", "[:::]", "[1]", "[1:2:3:4:5:6:7]", "[1:2:3:4:5:6:7:8:9]",
		"[1::2::3]", "[12345::]", "[::g]", "[1:2:3:4:5:6:7:8::]", "[::1]a", "[::1]80", "[[::1]]", "[::1%25eth0]", "[fe80::1%eth0]",
		"[::1.2.3]", "[::1.2.3.256]", "[::01.2.3.4]", "[1.2.3.4::]", "[1:]", "[v.a]", "[v1.]", "[127.0.0.1]", "a%", "a%4", "a%zz", "a\"b", "a<b>", "a\\b", "a^b", "a`b", "{a}", "a|b",
		"a\x01b", "a\x7fb", "\u00e9", "a\xff", "a\tb",
	} {
		rows = append(rows, Row{Section: s, Level: Must, Name: fmt.Sprintf("bad Host %q", v), Bytes: host(v), Want: want(bad)})
	}
	return append(rows, []Row{
		{Section: s, Level: Must, Name: "no Host in HTTP/1.1", Bytes: "GET / HTTP/1.1\r\n\r\n", Want: want(bad)},
		{Section: s, Level: Must, Name: "no Host among other fields", Bytes: "GET / HTTP/1.1\r\nAccept: */*\r\nX-Host: a\r\nHost1: a\r\n\r\n", Want: want(bad)},
		{Section: s, Level: Must, Name: "no Host in HTTP/1.0", Bytes: "GET / HTTP/1.0\r\n\r\n", Want: want(lastHit)},
		{Section: s, Level: Must, Name: "two Hosts", Bytes: get("Host: b\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "two equal Hosts", Bytes: get("Host: a\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "two Hosts in different case", Bytes: get("hOST: a\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "two Hosts, the first empty", Bytes: "GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", Want: want(bad)},
		{Section: s, Level: Must, Name: "two Hosts in HTTP/1.0", Bytes: get10("Host: a\r\nHost: a\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "bad Host in HTTP/1.0", Bytes: get10("Host: a b\r\n"), Want: want(bad)},
		{Section: "RFC 9112 3.3", Level: Choice, Name: "empty Host", Bytes: host(""), Want: want(bad)},
		{Section: "RFC 9112 3.3", Level: Choice, Name: "Host of whitespace", Bytes: host(" \t "), Want: want(bad)},
		{Section: "RFC 9112 3.3", Level: Choice, Name: "empty Host with OPTIONS *", Bytes: "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", Want: want(bad)},
		{Section: "RFC 9112 3.3", Level: Choice, Name: "empty Host in HTTP/1.0", Bytes: get10("Host:\r\n"), Want: want(lastHit)},
		{Section: h, Level: Must, Name: "Host in any case", Bytes: "GET / HTTP/1.1\r\nhOsT: a\r\n\r\n" + next, Want: want(hit, hit)},
		{Section: h, Level: Must, Name: "Host last", Bytes: "GET / HTTP/1.1\r\nAccept: */*\r\nHost: a\r\n\r\n" + next, Want: want(hit, hit)},
		{Section: h, Level: Must, Name: "Host in whitespace", Bytes: "GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n" + next, Want: want(hit, hit)},
		{Section: h, Level: Must, Name: "Host without whitespace", Bytes: "GET / HTTP/1.1\r\nHost:a\r\n\r\n" + next, Want: want(hit, hit)},
	}...)
}
