package engine

import (
	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// codec is what turns bytes into answers for all connections of a loop or
// goroutine: a parser, and what requests mean.
type codec struct {
	*httpparse.Parser
	contract
}

// session is the HTTP of one connection, apart from all I/O: it turns bytes
// into the answers they call for. It is a small value, and it moves with the
// connection when that leaves its loop.
type session struct {
	state httpparse.State
	cur   answer // to the request whose body is arriving
	name  []byte // of the counter that cur is about
	ended bool   // the last answer is owed or sent: no byte after it is looked at
	tail  bool   // a drain found a request half there: it is the last
}

// gather takes requests from the front of in until it needs more bytes, the
// session has ended, or room more answers are owed. It appends the answers to
// dst, and what they ask to b. It returns what it did not take: keep it, and call
// again with what follows it.
func (s *session) gather(c *codec, in []byte, dst []answer, room int, b *counter.Batch) (rest []byte, answers []answer) {
	for ; room > 0 && len(in) > 0 && !s.ended; room-- {
		n, a, name, ok := s.step(c, in)
		in = in[n:]
		if !ok {
			break
		}
		switch a.kind {
		case hit:
			a.place = b.Hit(name)
		case read:
			a.place = b.Read(name)
		case readSum:
			a.place = b.ReadSum()
		}
		dst = append(dst, a)
	}
	return in, dst
}

// step takes bytes from the front of in until one more answer is owed. It
// returns how many it took, and false when it needs more than in holds. name is
// good until the next step.
func (s *session) step(c *codec, in []byte) (n int, a answer, name []byte, ok bool) {
	for {
		k, ev, err := c.Next(&s.state, in[n:])
		n += k
		if err != nil {
			return n, s.refuse(reason(err)), nil, true
		}
		switch ev {
		case httpparse.NeedMore:
			return n, answer{}, nil, false
		case httpparse.Head:
			req := c.Request()
			a, name := c.classify(req, s.state.Reply())
			if !req.HasBody {
				return n, s.whole(a), name, true
			}
			if a.kind == refusal && req.Expect != httpparse.ExpectNone {
				// The client holds its body back until we answer; whether it
				// sends it after this answer cannot be known.
				a.reply.Close = true
				return n, s.whole(a), nil, true
			}
			s.cur, s.name = a, append(s.name[:0], name...)
			if req.Expect == httpparse.ExpectContinue && n == len(in) {
				return n, answer{kind: proceed}, nil, true
			}
		case httpparse.Data: // counted when it is whole, never kept
		case httpparse.End:
			return n, s.whole(s.cur), s.name, true
		}
	}
}

// whole is called when the request of a is.
func (s *session) whole(a answer) answer {
	s.ended = a.reply.Close
	return a
}

// classify says what a request asks for, and of which counter.
func (c *codec) classify(req *httpparse.Request, reply httpparse.Reply) (a answer, name []byte) {
	a.reply = reply
	a.kind, name, a.err = c.judge(req.Method, req.Path)
	switch {
	case req.TargetForm == httpparse.AuthorityForm: // CONNECT
		a.reply.Close = true // what follows may be meant for a tunnel
	case a.err == errNotImplemented:
	case req.Expect == httpparse.ExpectUnknown:
		a.kind, a.err = refusal, errExpectation
	case a.err == errNameTooLong:
		a.reply.Close = true
	}
	return a, name
}

// refuse ends the session with an error in the request at hand, or of it.
func (s *session) refuse(err *httpparse.Error) answer {
	a := answer{kind: refusal, err: err, reply: s.state.Reply()}
	a.reply.Close = true
	return s.whole(a)
}

func reason(err error) *httpparse.Error {
	if e, ok := err.(*httpparse.Error); ok {
		return e
	}
	return &httpparse.Error{Status: 400, Reason: err.Error()}
}

// endWith makes the last of answers the last of its connection.
func (s *session) endWith(answers []answer) {
	if len(answers) == 0 {
		return
	}
	a := &answers[len(answers)-1]
	if a.kind == proceed {
		return // its request's answer is still to come
	}
	a.reply.Close = true
	s.ended = true
}

// drain is called in a drain with answers that are about to be sent, and rest,
// what the session has not taken. What has arrived is still answered, and one
// request that has begun may finish; but a client that sends without a pause
// must not hold up the end.
func (s *session) drain(answers []answer, rest []byte) {
	switch {
	case s.tail || s.between(rest):
		s.endWith(answers)
	case s.state.InMessage():
		s.tail = true
	}
}

// between reports whether the session stands between two requests, when rest is
// what it has not taken. Half an empty line begins no request (RFC 9112 2.2): a client
// that sends one after each could hold up a drain for ever.
func (s *session) between(rest []byte) bool {
	return !s.state.InMessage() && (len(rest) == 0 || len(rest) == 1 && rest[0] == '\r')
}
