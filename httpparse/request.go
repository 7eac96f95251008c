package httpparse

import "iter"

// TargetForm is the form of a request target, RFC 9112 3.2.
type TargetForm uint8

const (
	OriginForm    TargetForm = iota // /path?query
	AbsoluteForm                    // http://host/path?query
	AuthorityForm                   // host:port, with CONNECT only
	AsteriskForm                    // *, with OPTIONS only
)

// Expectation is what the client expects, RFC 9110 10.1.1.
type Expectation uint8

const (
	ExpectNone     Expectation = iota
	ExpectContinue             // waits for 100 Continue before it sends the body
	ExpectUnknown              // something else: 417 is in order
)

// Request is the head of a request. Its slices belong to the Parser and to the
// buffer given to Next: they are valid until the next call of Next or until
// that buffer changes, whichever comes first, and must not be written to.
type Request struct {
	Method []byte // a token, case-sensitive
	Target []byte // as received
	// Path is the part of an origin-form or absolute-form target up to '?',
	// as received: nothing is decoded or normalised. "/" where an
	// absolute-form has none; empty for the other forms.
	Path []byte
	// Host is the host and port the request is for: the authority of an
	// absolute-form or authority-form target, else the Host field. Empty only
	// where an HTTP/1.0 client gave none. A Host field beside an absolute-form
	// means nothing, and may have any value (RFC 9112 3.2.2).
	Host []byte
	// ContentLength in bytes; 0 without a body, -1 when chunked.
	ContentLength int64
	Minor         uint8 // 0 for HTTP/1.0, 1 for 1.1 and for 1.2 to 1.9
	TargetForm    TargetForm
	Expect        Expectation // ExpectContinue only when a body follows, and never in HTTP/1.0
	HasBody       bool        // Data and End follow
	Close         bool        // the client wants, or its version means, that the connection closes after the answer

	parser *Parser
	head   []byte // all of it
	fields int
	whole  bool // the tokenizer has seen all fields
}

// NumFields returns the number of field lines.
func (r *Request) NumFields() int { return r.fields }

// Fields yields name and value of every field line, in the order received. The
// value has no whitespace around it. Both are valid as long as the slices of
// Request are.
func (r *Request) Fields() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if !r.tokenizeAll() {
			return
		}
		for i := range r.fields {
			if !yield(r.parser.tokens.field(i)) {
				return
			}
		}
	}
}

// tokenizeAll lets the tokenizer see the fields that the parser itself does
// not need. It reports whether it has.
func (r *Request) tokenizeAll() bool {
	if !r.whole && r.head != nil {
		r.parser.tokens.clear()
		r.whole = r.parser.tokens.parse(r.head, r.fields)
	}
	return r.whole
}
