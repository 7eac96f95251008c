package conformance

import (
	"fmt"
	"strings"
)

func fieldRows() []Row {
	const s, fold, val = "RFC 9112 5.1", "RFC 9112 5.2", "RFC 9110 5.5"
	rows := []Row{
		{Section: s, Level: Must, Name: "space before colon", Bytes: get("X : a\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "tab before colon", Bytes: get("X\t: a\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "space before colon of Host", Bytes: "GET / HTTP/1.1\r\nHost : a\r\n\r\n", Want: want(bad)},
		{Section: s, Level: Must, Name: "space before colon of Content-Length", Bytes: post("Content-Length : 3\r\n", "abc"), Want: want(bad)},
		{Section: s, Level: Must, Name: "space before colon of Transfer-Encoding", Bytes: post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "no colon", Bytes: get("X\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "no colon hides the next field", Bytes: get("foo\r\nTransfer-Encoding: chunked\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "empty name", Bytes: get(": a\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "only a colon", Bytes: get(":\r\n"), Want: want(bad)},
		{Section: s, Level: Must, Name: "name of every token character", Bytes: get("!#$%&'*+-.^_`|~09AZaz: a\r\n") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "no whitespace around value", Bytes: get("X:a\r\n") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "whitespace around value", Bytes: get("X: \t a \t \r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "empty value", Bytes: get("X:\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "value of whitespace", Bytes: get("X: \t \r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "empty value before Content-Length", Bytes: post("X:\r\nContent-Length: 3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "empty value last", Bytes: get("Y: a\r\nX:\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "colons in value", Bytes: get("X: :a::b:\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "tab within value", Bytes: get("X: a\tb\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "tab within value behind eight bytes", Bytes: get("X: 0123456789\tb0123456789\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "obs-text in value", Bytes: get("X: \x80\xff\u00e9\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "every visible character in value", Bytes: get("X: !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\r\n") + next, Want: want(hit, hit)},
		{Section: val, Level: Must, Name: "bad byte behind eight good ones", Bytes: get("X: 0123456789abcde\x01f0123456789\r\n"), Want: want(bad)},
		{Section: val, Level: Must, Name: "DEL behind eight good ones", Bytes: get("X: 0123456789abcde\x7ff0123456789\r\n"), Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold with space", Bytes: get("X: a\r\n b\r\n"), Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold with tab", Bytes: get("X: a\r\n\tb\r\n"), Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold before the end", Bytes: get("X: a\r\n \r\n"), Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold of Host", Bytes: "GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold of Transfer-Encoding", Bytes: post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold of Content-Length", Bytes: post("Content-Length: 1\r\n 0\r\n", "0123456789"), Want: want(bad)},
		{Section: fold, Level: Must, Name: "obs-fold hides Content-Length", Bytes: post("X: a\r\n Content-Length: 3\r\n", "abc"), Want: want(bad)},
		{Section: "RFC 9110 5.3", Level: Must, Name: "a field in two lines", Bytes: get("Accept: a\r\nAccept: b\r\n") + next, Want: want(hit, hit)},
		{Section: "RFC 9110 5.4", Level: May, Name: "a hundred fields", Bytes: get(strings.Repeat("X-Y: z\r\n", 100)) + next, Want: want(hit, hit)},
		{Section: "RFC 9110 5.4", Level: May, Name: "a thousand fields", Bytes: get(strings.Repeat("X-Y: z\r\n", 1000)) + next, Want: want(hit, hit)},
	}
	for _, c := range "\"(),/;<=>?@[\\]{}" {
		rows = append(rows, Row{Section: s, Level: Must, Name: fmt.Sprintf("name with %q", c), Bytes: get(fmt.Sprintf("X%cY: a\r\n", c)), Want: want(bad)})
	}
	for _, c := range []byte{0, 1, '\t', '\v', 0x1f, ' ', 0x7f, 0x80, 0xff} {
		rows = append(rows, Row{Section: s, Level: Must, Name: fmt.Sprintf("name with byte %02X", c), Bytes: get("X" + string([]byte{c}) + "Y: a\r\n"), Want: want(bad)})
	}
	for _, c := range []byte{0, 1, 7, 8, '\v', '\f', 0x1b, 0x1f, 0x7f} {
		rows = append(rows, Row{Section: val, Level: Must, Name: fmt.Sprintf("value with byte %02X", c), Bytes: get("X: a" + string([]byte{c}) + "b\r\n"), Want: want(bad)})
	}
	return rows
}

func lengthRows() []Row {
	const s, f = "RFC 9112 6.3", "RFC 9110 8.6"
	rows := []Row{
		{Section: s, Level: Must, Name: "Content-Length", Bytes: post("Content-Length: 3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "Content-Length 0", Bytes: post("Content-Length: 0\r\n", "") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "POST without Content-Length has no body", Bytes: post("", "") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "GET with a body", Bytes: get("Content-Length: 3\r\n") + "abc" + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "HEAD with a body", Bytes: "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + next, Want: want(Outcome{Status: 200, Head: true}, hit)},
		{Section: s, Level: Must, Name: "DELETE with a body", Bytes: "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "body that looks like a request", Bytes: post(fmt.Sprintf("Content-Length: %d\r\n", len(next)), next) + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "body of CRLF and NUL", Bytes: post("Content-Length: 6\r\n", "\r\n\r\n\x00\xff") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "nothing carried over from a body", Bytes: post("Content-Length: 3\r\n", "abc") + get("") + next, Want: want(hit, hit, hit)},
		{Section: s, Level: Must, Name: "Content-Length in HTTP/1.0", Bytes: "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc" + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "Content-Length with leading zeros", Bytes: post("Content-Length: 0003\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "Content-Length with thirty zeros", Bytes: post("Content-Length: "+strings.Repeat("0", 30)+"3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "Content-Length in any case", Bytes: post("cONTENT-lENGTH: 3\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "Content-Length in whitespace", Bytes: post("Content-Length: \t 3 \t\r\n", "abc") + next, Want: want(hit, hit)},
		{Section: s, Level: Must, Name: "body not complete", Bytes: get("") + post("Content-Length: 4\r\n", "abc"), Want: want(hit), Open: true},
		{Section: s, Level: May, Name: "two equal Content-Lengths", Bytes: post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), Want: want(bad)},
		{Section: s, Level: Must, Name: "two Content-Lengths", Bytes: post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), Want: want(bad)},
		{Section: s, Level: Must, Name: "two Content-Lengths, the first 0", Bytes: post("Content-Length: 0\r\nContent-Length: 4\r\n", "abcd"), Want: want(bad)},
		{Section: s, Level: Must, Name: "two Content-Lengths in different case", Bytes: post("Content-Length: 3\r\ncontent-length: 4\r\n", "abc"), Want: want(bad)},
		{Section: s, Level: May, Name: "Content-Length in a list of equals", Bytes: post("Content-Length: 3, 3\r\n", "abc"), Want: want(bad)},
		{Section: s, Level: Must, Name: "Content-Length in HTTP/1.0 twice", Bytes: "POST / HTTP/1.0\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Want: want(bad)},
		{Section: f, Level: Must, Name: "Content-Length 2^63-1 is a number, too large", Bytes: post("Content-Length: 9223372036854775807\r\n", ""), Want: want(tooBig)},
	}
	for _, v := range []string{
		"3, 4", "3,", ",3", "3 4", "3;", "+3", "-3", "-0", "-1", "0x3", "3h", "3.0", "3e0", "1e3", "1_000", "", " ", "\t", "three", "3\x00", "\u0663", "'3'", "\"3\"",
		"9223372036854775808", "18446744073709551616", "18446744073709551619", "99999999999999999999999999999999", "4294967299x",
	} {
		rows = append(rows, Row{Section: s, Level: Must, Name: fmt.Sprintf("Content-Length %q", v), Bytes: post("Content-Length: "+v+"\r\n", "abc"), Want: want(bad)})
	}
	return rows
}

func codingRows() []Row {
	const s, f = "RFC 9112 6.3", "RFC 9112 6.1"
	const body = "3\r\nabc\r\n0\r\n\r\n"
	rows := []Row{
		{Section: f, Level: Must, Name: "chunked", Bytes: chunks(body) + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "chunked in any case", Bytes: post("tRANSFER-eNCODING: cHUNKED\r\n", body) + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "chunked in whitespace", Bytes: post("Transfer-Encoding: \t chunked \t\r\n", body) + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "chunked without whitespace", Bytes: post("Transfer-Encoding:chunked\r\n", body) + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "chunked GET", Bytes: get("Transfer-Encoding: chunked\r\n") + body + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "chunked HTTP/1.2", Bytes: "POST / HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body + next, Want: want(hit, hit)},
		{Section: f, Level: Must, Name: "nothing carried over from chunked", Bytes: chunks(body) + get("") + next, Want: want(hit, hit, hit)},
		{Section: f, Level: Must, Name: "Transfer-Encoding in HTTP/1.0", Bytes: "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + body, Want: want(bad)},
		{Section: f, Level: Must, Name: "Transfer-Encoding in HTTP/1.0 with keep-alive", Bytes: "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + body, Want: want(bad)},
		{Section: s, Level: Choice, Name: "Content-Length then Transfer-Encoding", Bytes: post("Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", body), Want: want(bad)},
		{Section: s, Level: Choice, Name: "Transfer-Encoding then Content-Length", Bytes: post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", body), Want: want(bad)},
		{Section: s, Level: Choice, Name: "Transfer-Encoding with Content-Length 0", Bytes: post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", body), Want: want(bad)},
		{Section: s, Level: Choice, Name: "Transfer-Encoding with bad Content-Length", Bytes: post("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", body), Want: want(bad)},
		{Section: "RFC 9112 7.1", Level: Must, Name: "chunked twice in two lines", Bytes: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body), Want: want(bad)},
		{Section: s, Level: Must, Name: "chunked and another coding in two lines", Bytes: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", body), Want: want(bad)},
		{Section: s, Level: Must, Name: "chunked and identity in two lines", Bytes: post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", body), Want: want(bad)},
		{Section: f, Level: Should, Name: "another coding and chunked in two lines", Bytes: post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", body), Want: want(notImpl)},
		{Section: f, Level: Choice, Name: "chunked and an empty line of codings", Bytes: post("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", body), Want: want(bad)},
		{Section: f, Level: Choice, Name: "underscore is not Transfer-Encoding", Bytes: post("Transfer_Encoding: chunked\r\n", "") + next, Want: want(hit, hit)},
	}
	for _, v := range []string{"gzip, chunked", "deflate,chunked", "compress , chunked", "identity, chunked", "x-foo;a=b, chunked", "gzip, deflate, chunked", "cow, CHUNKED", "a;b=\"c\", chunked"} {
		rows = append(rows, Row{Section: f, Level: Should, Name: fmt.Sprintf("Transfer-Encoding %q", v), Bytes: post("Transfer-Encoding: "+v+"\r\n", body), Want: want(notImpl)})
	}
	for _, v := range []string{
		"gzip", "identity", "chunked, gzip", "chunked, identity", "xchunked", "chunkedx", "chunke", "x-chunked", "chunk", "\"chunked\"", "'chunked'", "chunked;a=b", "chunked;",
		"chunked a", "chunked\x0b", "\x0bchunked", "chunked\x00", "chunked\x1f", "", " ", ",", "chunked,", ",chunked", ", chunked", "chunked,,", "chunked, chunked", "gzip, chunked, chunked", "gzip chunked", "chunked gzip",
		"(a), chunked", "chunked=", "ch\xc3\xbcnked", "\u212ahunked", "chun\u212aed", "\xa0chunked", "chunked\t,\t", "none", "chunked:",
	} {
		rows = append(rows, Row{Section: s, Level: Must, Name: fmt.Sprintf("Transfer-Encoding %q", v), Bytes: post("Transfer-Encoding: "+v+"\r\n", body), Want: want(bad)})
	}
	return rows
}

func chunkRows() []Row {
	const s, x = "RFC 9112 7.1", "RFC 9112 7.1.1"
	var rows []Row
	for _, b := range []struct{ section, name, body string }{
		{s, "no chunks", "0\r\n\r\n"},
		{s, "one chunk", "3\r\nabc\r\n0\r\n\r\n"},
		{s, "two chunks", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"},
		{s, "hex digits in capitals", "A\r\n0123456789\r\n0\r\n\r\n"},
		{s, "hex digits in small letters", "a\r\n0123456789\r\n0\r\n\r\n"},
		{s, "two hex digits", "1f\r\n" + strings.Repeat("x", 31) + "\r\n0\r\n\r\n"},
		{s, "leading zeros", "000003\r\nabc\r\n0\r\n\r\n"},
		{s, "forty leading zeros", strings.Repeat("0", 40) + "3\r\nabc\r\n0\r\n\r\n"},
		{s, "last chunk of zeros", "3\r\nabc\r\n0000\r\n\r\n"},
		{s, "data of CRLF", "6\r\n\r\n0\r\n\r\r\n0\r\n\r\n"},
		{s, "data that looks like a request", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(next), next)},
		{s, "data of NUL", "2\r\n\x00\x00\r\n0\r\n\r\n"},
		{x, "extension", "3;a=b\r\nabc\r\n0\r\n\r\n"},
		{x, "extension without value", "3;a\r\nabc\r\n0\r\n\r\n"},
		{x, "extension with quoted value", "3;a=\"b c\"\r\nabc\r\n0\r\n\r\n"},
		{x, "extension with empty quoted value", "3;a=\"\"\r\nabc\r\n0\r\n\r\n"},
		{x, "extension with quoted pair", "3;a=\"\\\"\\\\\"\r\nabc\r\n0\r\n\r\n"},
		{x, "extension with obs-text", "3;a=\"\xe9\"\r\nabc\r\n0\r\n\r\n"},
		{x, "extension with semicolon in quotes", "3;a=\";b\"\r\nabc\r\n0\r\n\r\n"},
		{x, "extensions", "3;a=b;c;d=\"e\"\r\nabc\r\n0;f\r\n\r\n"},
		{x, "extension in whitespace", "3 ; a\t= b ;c\r\nabc\r\n0\r\n\r\n"},
		{x, "extension of the last chunk", "0;a=b\r\n\r\n"},
	} {
		rows = append(rows, Row{Section: b.section, Level: Must, Name: "chunked: " + b.name, Bytes: chunks(b.body) + next, Want: want(hit, hit)})
	}
	for _, b := range []struct{ section, name, body string }{
		{s, "empty size", "\r\nabc\r\n0\r\n\r\n"},
		{s, "space before size", " 3\r\nabc\r\n0\r\n\r\n"},
		{s, "tab before size", "\t3\r\nabc\r\n0\r\n\r\n"},
		{s, "empty line before size", "\r\n3\r\nabc\r\n0\r\n\r\n"},
		{s, "size with plus", "+3\r\nabc\r\n0\r\n\r\n"},
		{s, "size with minus", "-3\r\nabc\r\n0\r\n\r\n"},
		{s, "size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"},
		{s, "size with 0X", "0X3\r\nabc\r\n0\r\n\r\n"},
		{s, "size with h", "3h\r\nabc\r\n0\r\n\r\n"},
		{s, "size with underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"},
		{s, "size with dot", "3.0\r\nabc\r\n0\r\n\r\n"},
		{s, "size with comma", "3,3\r\nabc\r\n0\r\n\r\n"},
		{s, "size in quotes", "\"3\"\r\nabc\r\n0\r\n\r\n"},
		{s, "size that is no hex", "g\r\nabc\r\n0\r\n\r\n"},
		{s, "size with NUL", "3\x00\r\nabc\r\n0\r\n\r\n"},
		{s, "size in full-width digits", "\uff13\r\nabc\r\n0\r\n\r\n"},
		{s, "size 2^63", "8000000000000000\r\nabc\r\n0\r\n\r\n"},
		{s, "size 2^64-1", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"},
		{s, "size 2^64+3", "10000000000000003\r\nabc\r\n0\r\n\r\n"},
		{s, "size of 32 digits", "fffffffffffffffffffffffffffffff3\r\nabc\r\n0\r\n\r\n"},
		{s, "space behind size", "3 \r\nabc\r\n0\r\n\r\n"},
		{s, "tab behind size", "3\t\r\nabc\r\n0\r\n\r\n"},
		{s, "space behind last size", "0 \r\n\r\n"},
		{s, "size ended by LF", "3\nabc\r\n0\r\n\r\n"},
		{s, "size ended by CR", "3\rabc\r\n0\r\n\r\n"},
		{s, "size ended by CR CR LF", "3\r\r\nabc\r\n0\r\n\r\n"},
		{s, "last size ended by LF", "0\n\r\n"},
		{s, "data ended by LF", "3\r\nabc\n0\r\n\r\n"},
		{s, "data ended by CR", "3\r\nabc\r0\r\n\r\n"},
		{s, "data not ended", "3\r\nabc0\r\n\r\n"},
		{s, "data too long", "3\r\nabcd\r\n0\r\n\r\n"},
		{s, "data too short", "4\r\nabc\r\n0\r\n\r\n"},
		{s, "last line ended by LF", "0\r\n\n"},
		{s, "last line of CR CR LF", "0\r\n\r\r\n"},
		{x, "empty extension", "3;\r\nabc\r\n0\r\n\r\n"},
		{x, "two semicolons", "3;;a\r\nabc\r\n0\r\n\r\n"},
		{x, "extension without name", "3;=a\r\nabc\r\n0\r\n\r\n"},
		{x, "extension with equals and no value", "3;a=\r\nabc\r\n0\r\n\r\n"},
		{x, "space behind extension", "3;a=b \r\nabc\r\n0\r\n\r\n"},
		{x, "space behind extension name", "3;a \r\nabc\r\n0\r\n\r\n"},
		{x, "two words in extension", "3;a b\r\nabc\r\n0\r\n\r\n"},
		{x, "two values", "3;a=b=c\r\nabc\r\n0\r\n\r\n"},
		{x, "LF in extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"},
		{x, "LF ends extension", "3;a\nabc\r\n0\r\n\r\n"},
		{x, "CR in extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"},
		{x, "CRLF in quoted value", "3;a=\"b\r\nc\"\r\nabc\r\n0\r\n\r\n"},
		{x, "LF in quoted value", "3;a=\"\n\"\r\nabc\r\n0\r\n\r\n"},
		{x, "LF behind backslash", "3;a=\"\\\n\"\r\nabc\r\n0\r\n\r\n"},
		{x, "NUL in extension", "3;a\x00\r\nabc\r\n0\r\n\r\n"},
		{x, "NUL in quoted value", "3;a=\"\x00\"\r\nabc\r\n0\r\n\r\n"},
		{x, "DEL in quoted value", "3;a=\"\x7f\"\r\nabc\r\n0\r\n\r\n"},
		{x, "quoted value not ended", "3;a=\"b\r\nabc\r\n0\r\n\r\n"},
		{x, "text behind quoted value", "3;a=\"b\"c\r\nabc\r\n0\r\n\r\n"},
		{x, "comma for semicolon", "3,a=b\r\nabc\r\n0\r\n\r\n"},
		{x, "quoted name", "3;\"a\"=b\r\nabc\r\n0\r\n\r\n"},
		{x, "obs-text in extension token", "3;a=\xe9\r\nabc\r\n0\r\n\r\n"},
		{x, "single quotes are no quotes", "3;a='b c'\r\nabc\r\n0\r\n\r\n"},
	} {
		rows = append(rows, Row{Section: b.section, Level: Must, Name: "chunked: " + b.name, Bytes: chunks(b.body), Want: want(bad)})
	}
	return append(rows,
		Row{Section: s, Level: Must, Name: "chunked: not complete", Bytes: chunks("3\r\nabc\r\n"), Want: nil, Open: true},
		Row{Section: s, Level: Must, Name: "chunked: last empty line missing", Bytes: chunks("0\r\n"), Want: nil, Open: true},
		Row{Section: s, Level: Must, Name: "chunked: size 2^63-1 is a number, too large", Bytes: chunks("7fffffffffffffff\r\n"), Want: want(tooBig)},
	)
}

func trailerRows() []Row {
	const s, f, v = "RFC 9112 7.1.2", "RFC 9110 6.5.1", "RFC 9112 5"
	var rows []Row
	for _, b := range []struct{ name, trailer string }{
		{"one field", "X: a\r\n"},
		{"two fields", "X: a\r\nDigest: b\r\n"},
		{"empty value", "X:\r\n"},
		{"obs-text", "X: \xe9\r\n"},
		{"Trailer need not announce it", "X-Checksum: 1\r\n"},
	} {
		rows = append(rows, Row{Section: s, Level: Must, Name: "trailer: " + b.name, Bytes: chunks("3\r\nabc\r\n0\r\n"+b.trailer+"\r\n") + next, Want: want(hit, hit)})
	}
	for _, name := range []string{
		"Transfer-Encoding", "Content-Length", "Host", "Connection", "Trailer", "TE", "Upgrade", "Keep-Alive", "Proxy-Connection",
		"Cache-Control", "Expect", "Max-Forwards", "Pragma", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
		"Authorization", "Proxy-Authorization", "Cookie", "Content-Encoding", "Content-Type", "Content-Range", "cONTENT-lENGTH",
		"Proxy-Authenticate", "Set-Cookie", "WWW-Authenticate", "Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning",
	} {
		rows = append(rows, Row{Section: f, Level: Choice, Name: "trailer: " + name, Bytes: chunks("0\r\n" + name + ": 1\r\n\r\n"), Want: want(bad)})
	}
	for _, b := range []struct{ name, trailer string }{
		{"space before colon", "X : a\r\n"},
		{"no colon", "X\r\n"},
		{"empty name", ": a\r\n"},
		{"bare LF", "X: a\n"},
		{"bare CR", "X: a\rb\r\n"},
		{"leading space", " X: a\r\n"},
		{"obs-fold", "X: a\r\n b\r\n"},
		{"NUL in value", "X: \x00\r\n"},
		{"DEL in value", "X: \x7f\r\n"},
		{"NUL in name", "X\x00: a\r\n"},
		{"obs-text in name", "\xe9: a\r\n"},
		{"a request in its place", "GET /next HTTP/1.1\r\nHost: a\r\n"},
	} {
		rows = append(rows, Row{Section: v, Level: Must, Name: "trailer: " + b.name, Bytes: chunks("0\r\n" + b.trailer + "\r\n"), Want: want(bad)})
	}
	return rows
}
