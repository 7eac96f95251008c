package engine

import (
	"bytes"

	"github.com/counterd/counterd/httpparse"
)

// session is the HTTP of one connection, apart from all I/O: it turns bytes
// into the answers they call for. It is a small value, and it moves with the
// connection when a goroutine takes it over from a loop.
type session struct {
	state httpparse.State
	cur   answer // to the request whose body is arriving
	done  bool   // the last answer is owed or sent: no byte after it is looked at
	tail  bool   // a drain found a request half there: it is the last
}

// step takes bytes from the front of in until one more answer is owed. It
// returns how many it took, and false when it needs more than in holds: keep
// in[n:], and call again with what follows it.
func (s *session) step(p *httpparse.Parser, in []byte) (n int, a answer, ok bool) {
	for {
		inBody := s.state.InBody()
		k, ev, err := p.Next(&s.state, in[n:])
		n += k
		if err != nil {
			return n, s.refuse(reason(err), inBody, in[n:]), true
		}
		switch ev {
		case httpparse.NeedMore:
			return n, answer{}, false
		case httpparse.Head:
			req := p.Request()
			a := classify(req)
			if !req.HasBody {
				return n, s.end(a), true
			}
			if a.kind == refusal && req.Expect != httpparse.ExpectNone {
				// The client holds its body back until we answer; whether it
				// sends it after this answer cannot be known.
				a.flags |= flagClose
				return n, s.end(a), true
			}
			s.cur = a
			if req.Expect == httpparse.ExpectContinue && n == len(in) {
				return n, answer{kind: proceed}, true
			}
		case httpparse.Data: // counted when it is whole, never kept
		case httpparse.End:
			return n, s.end(s.cur), true
		}
	}
}

// end is called when the request of a is whole.
func (s *session) end(a answer) answer {
	s.cur = answer{}
	s.done = a.flags&flagClose != 0
	return a
}

// slow ends a session whose request did not arrive in time. rest is what it has
// not taken.
func (s *session) slow(rest []byte) answer {
	return s.refuse(errSlow, s.state.InBody(), rest)
}

// refuse ends the session with an error in a body, or in the head that rest
// begins with.
func (s *session) refuse(err *httpparse.Error, inBody bool, rest []byte) answer {
	s.done = true
	flags := s.cur.flags&flagHead | flagClose
	if !inBody && asksByHead(rest) {
		flags |= flagHead
	}
	return answer{kind: refusal, err: err, flags: flags}
}

// asksByHead tells whether a head, however bad or short, begins as one of HEAD,
// whose answer has no body even if it is an error (RFC 9110 9.3.2).
func asksByHead(head []byte) bool {
	return bytes.HasPrefix(bytes.TrimPrefix(head, []byte("\r\n")), []byte("HEAD "))
}

func reason(err error) *httpparse.Error {
	if e, ok := err.(*httpparse.Error); ok {
		return e
	}
	return &httpparse.Error{Status: 400, Reason: err.Error()}
}

// classify says what a request asks for. Its target is compared as raw bytes.
func classify(req *httpparse.Request) answer {
	a := answer{kind: hit}
	switch {
	case req.Close:
		a.flags = flagClose
	case req.Minor == 0:
		a.flags = flagKeepAlive
	}
	method := string(req.Method) // does not escape: no allocation
	if method == "HEAD" {
		a.flags |= flagHead
	}
	switch {
	case method == "CONNECT":
		// What follows may be meant for a tunnel.
		return answer{kind: refusal, err: errNotImplemented, flags: a.flags | flagClose}
	case method == "TRACE":
		a.kind, a.err = refusal, errNotImplemented
	case req.Expect == httpparse.ExpectUnknown:
		a.kind, a.err = refusal, errExpectation
	case string(req.Path) != "/count":
	case method == "GET" || method == "HEAD":
		a.kind = read
	default:
		a.kind, a.err = refusal, errMethodNotAllowed
	}
	return a
}

// gather takes requests from the front of in until it needs more bytes, the
// session is done, or room more answers are owed. It appends the answers to
// dst, with hits standing before the first of them. It returns what it did not
// take and the hits that stand before whatever comes next.
func (s *session) gather(p *httpparse.Parser, in []byte, dst []answer, room int, hits int32) ([]byte, []answer, int32) {
	for ; room > 0 && len(in) > 0 && !s.done; room-- {
		n, a, ok := s.step(p, in)
		in = in[n:]
		if !ok {
			break
		}
		a.before = hits
		if a.kind == hit {
			hits++
		}
		dst = append(dst, a)
	}
	return in, dst, hits
}

// conclude makes the last of answers the last of its connection.
func (s *session) conclude(answers []answer) {
	if len(answers) == 0 {
		return
	}
	a := &answers[len(answers)-1]
	if a.kind == proceed {
		return // its request's answer is still to come
	}
	a.flags = a.flags&^flagKeepAlive | flagClose
	s.done = true
}

// windUp is called in a drain with answers that are about to be sent, and rest,
// what the session has not taken. What has arrived is still answered, and one
// request that has begun may finish; but a client that sends without a pause
// must not hold up the end.
func (s *session) windUp(answers []answer, rest []byte) {
	switch {
	case s.tail || s.between(rest):
		s.conclude(answers)
	case s.state.InMessage():
		s.tail = true
	}
}

// between tells whether the session stands between two requests, when rest is
// what it has not taken.
func (s *session) between(rest []byte) bool {
	return len(rest) == 0 && !s.state.InMessage()
}

// asks tells whether any of the answers needs the store.
func asks(answers []answer) bool {
	for i := range answers {
		if answers[i].asks() {
			return true
		}
	}
	return false
}
