// Package httpparse turns bytes into HTTP/1.1 requests and answers into bytes, for
// servers that do their own I/O, such as those on gnet. It follows RFC 9112 and the
// parts of RFC 9110 that concern a server. It knows nothing of sockets.
//
// # What it promises
//
//   - Strict: of all that frames a message it accepts what the RFCs' grammar
//     allows and nothing else. Where they leave a choice, it chooses what request
//     smuggling can't use: no bare LF or CR, no folded lines, no whitespace before
//     a colon, one Content-Length or one chunked, never both. Only the path and
//     query of a target are taken as browsers send them. docs/http.md lists the
//     rules.
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
// event loop needs one for all its connections, and several loops need one each.
// Call [Parser.Next] with what has arrived and isn't consumed, until it says
// NeedMore:
//
//	for {
//		n, event, err := parser.Next(&state, buf)
//		if err != nil {
//			// answer with err.(*Error).Status on state.Reply(), and close
//		}
//		buf = buf[n:]
//		switch event {
//		case httpparse.NeedMore:
//			return buf // keep it, and put behind it what arrives next
//		case httpparse.Head:
//			// look at parser.Request(), and copy of it what is needed later
//			if parser.Request().HasBody {
//				continue // Data and End follow
//			}
//		case httpparse.Data:
//			// take parser.Data()
//			continue
//		case httpparse.End:
//		}
//		// The request is complete, with or without a body.
//		out = response.Append(out, date, state.Reply(), body)
//		if state.Reply().Close {
//			// send out, and close
//		}
//	}
//
// A [Response] is the constant part of an answer, rendered once. [State.Reply]
// carries over what the request asks of it: no body to HEAD, no chunks to HTTP/1.0,
// and whether the connection closes. That holds for refusals too.
//
// What is left to the caller: to close after an error, or where Reply says Close,
// and to read nothing behind it, but to read off what still comes before the socket
// is closed (RFC 9112 9.6); to send [Continue] where Expect asks for it and the body
// has not come yet; to refuse methods that it doesn't serve; to give slow clients a
// deadline ([State.InMessage] reports whether a request has begun). The example
// called Server has all of this with a goroutine per connection, and examples/gnet
// is a server on gnet.
//
// The slices in Request and Data lie in the caller's buffer or in the Parser, until
// the next call of Next; what is to be kept has to be copied. Nothing is kept of the
// buffer itself once Next has returned NeedMore or End.
//
// A Parser may be used by one goroutine at a time. Nothing in it is shared with
// another Parser.
package httpparse
