// Package httpparse turns bytes into HTTP/1.1 requests, for servers that do
// their own I/O, such as those on gnet. It follows RFC 9112 and the parts of
// RFC 9110 that concern a server. It knows nothing of sockets, goroutines or
// responses.
//
// # What it promises
//
//   - Strict: it accepts what the RFCs' grammar allows and nothing else. Where
//     they leave a choice, it chooses what request smuggling can't use: no bare
//     LF or CR, no folded lines, no whitespace before a colon, one
//     Content-Length or one chunked, never both. docs/http.md lists the rules.
//   - One framing: the requests and their boundaries don't depend on the pieces
//     in which the bytes arrive, and neither does the verdict on a bad one.
//   - Bounded: a head, a trailer section and a body each have an exact limit.
//     Bodies, chunk sizes and chunk extensions are consumed as they come. A
//     Parser keeps at most about 30 KiB between calls, a State is under 64
//     bytes.
//   - Cheap: linear in the octets, however they arrive, and nothing is
//     allocated for a request of up to 256 field lines.
//   - Nothing is carried over from one request to the next.
//   - It does not panic, whatever the bytes.
//
// # How it works
//
// A gate judges octets as they arrive. What passes is a head that a tokenizer
// can't misread: CRLF at the end of every line, a request line of three words,
// field lines of a token, a colon and a value without controls. Then wildcat
// (github.com/evanphx/wildcat) takes the head apart, and the parser reads from
// its tokens what the request means. By itself wildcat is fast and gullible: it
// panics on a head whose first field line begins with a space, and keeps fields
// from one request to the next. Of a head that arrived in one piece it is shown
// only the lines that matter here (the request line, Host, Connection, Expect,
// Content-Length, Transfer-Encoding), and not Host where that is the only field
// among them, unless these lines are long or [Request.Fields] asks for all.
//
// # How to use it
//
// A [State] belongs to a connection, a [Parser] to the goroutine that reads: an
// event loop needs one for all its connections. Call [Parser.Next] with what
// has arrived and isn't consumed, until it says NeedMore:
//
//	for {
//		n, event, err := parser.Next(&state, buf)
//		if err != nil { ... } // answer err.(*Error).Status, close
//		switch event {
//		case httpparse.Head: ... // parser.Request(), before the next call
//		case httpparse.Data: ... // parser.Data()
//		case httpparse.End:  ... // the request with this body is complete
//		}
//		buf = buf[n:]
//		if event == httpparse.NeedMore { break } // keep buf
//	}
//
// What the caller has to do: answer and close after an error or a Request that
// says Close, and read nothing behind it; send 100 Continue where Expect asks
// for it; tell an HTTP/1.0 client that the connection persists; leave the body
// out of an answer to HEAD; refuse methods it doesn't serve; give slow clients a
// deadline ([State.InMessage] reports whether a request has begun). examples/gnet
// is a whole server on gnet.
//
// A Parser may be used by one goroutine at a time. Nothing in it is shared with
// another Parser.
package httpparse
