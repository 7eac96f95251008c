package httpparse

import (
	"bytes"
	"iter"
	"math"

	"github.com/evanphx/wildcat"
)

// Limits of what a Parser accepts. Both are exact: N bytes pass, N+1 don't.
type Limits struct {
	// MaxHeaderBytes bounds the head: request line and fields with every
	// CRLF, the final one included. A trailer section has the same limit for
	// itself. Zero or less means DefaultMaxHeaderBytes.
	MaxHeaderBytes int
	// MaxBodyBytes bounds the body as it arrives, chunk sizes, extensions and
	// CRLFs included, the trailer section not. Zero means DefaultMaxBodyBytes,
	// less than zero that no body is accepted.
	MaxBodyBytes int64
}

// Defaults of Limits.
const (
	DefaultMaxHeaderBytes = 16 << 10
	DefaultMaxBodyBytes   = 1 << 20
)

// Event is what Next found.
type Event uint8

const (
	// NeedMore: the rest of buf is not enough; call again with more.
	NeedMore Event = iota
	// Head: a request's head is complete; see Parser.Request.
	Head
	// Data: a part of the body; see Parser.Data.
	Data
	// End: the body has ended, and with it the request.
	End
)

func (e Event) String() string {
	switch e {
	case NeedMore:
		return "NeedMore"
	case Head:
		return "Head"
	case Data:
		return "Data"
	case End:
		return "End"
	}
	return "Event(?)"
}

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
	// where an HTTP/1.0 client gave none.
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
			h := &r.parser.tokens.Headers[i]
			if !yield(h.Name, tokenValue(h.Value)) {
				return
			}
		}
	}
}

// tokenizeAll lets the tokenizer see the fields that the parser itself does
// not need.
func (r *Request) tokenizeAll() bool {
	if !r.whole && r.head != nil {
		r.parser.clearTokens()
		r.whole = r.parser.tokenize(r.head, r.fields)
	}
	return r.whole
}

// tokenValue mends what wildcat gives as a value: it takes the CR of an empty
// value for the first octet, and keeps whitespace at the end.
func tokenValue(v []byte) []byte {
	if len(v) == 1 && v[0] == '\r' {
		return v[:0]
	}
	return trimSpace(v)
}

// What a Parser keeps between calls is bounded, however large the heads were.
const (
	fewFields  = 16   // room in a new tokenizer
	mostFields = 512  // a tokenizer with more is not kept
	mostKept   = 2048 // bytes of kept
	mostHost   = 256  // bytes of host
)

// Parser turns bytes into requests. It holds what a call of Next needs, and
// nothing about any connection: that is in State. So one Parser serves all
// connections of an event loop or goroutine, but not two goroutines at a time.
type Parser struct {
	maxHead int
	maxBody int64
	tokens  *wildcat.HTTPParser
	seen    int    // fields that tokens holds
	kept    []byte // room for the lines of a head that matter
	host    []byte // the last Host that was well-formed: most requests repeat it
	request Request
	data    []byte
}

// NewParser returns a Parser with these limits.
func NewParser(l Limits) *Parser {
	p := &Parser{
		maxHead: l.MaxHeaderBytes,
		maxBody: l.MaxBodyBytes,
		tokens:  wildcat.NewSizedHTTPParser(fewFields),
	}
	if p.maxHead <= 0 {
		p.maxHead = DefaultMaxHeaderBytes
	}
	p.maxHead = min(p.maxHead, math.MaxInt32) // offsets in State are 32 bits
	if p.maxBody == 0 {
		p.maxBody = DefaultMaxBodyBytes
	}
	p.maxBody = max(p.maxBody, 0)
	return p
}

// Request describes the head that the last Next returned. It is overwritten by
// the next call of Next.
func (p *Parser) Request() *Request { return &p.request }

// Data is the body part that the last Next returned. It aliases that call's buf.
func (p *Parser) Data() []byte { return p.data }

// Next reads on in the connection that st belongs to. buf begins with the first
// byte that isn't consumed yet; n bytes of it are consumed by this call.
//
//   - NeedMore: keep buf[n:] and call again when there are more bytes behind it.
//     Of a head nothing is consumed until it is complete (but the empty line
//     before it); st remembers how far it was looked at, so that no octet is
//     looked at twice when they arrive one by one. Of a body everything is
//     consumed but an incomplete line of the trailer section.
//   - Head: Request describes it. If its HasBody is false the request is
//     complete, else Data and End follow.
//   - Data: Data returns the part of the body that was among the n bytes.
//   - End: the body, trailers included, has ended.
//
// Call Next until it says NeedMore, also when buf[n:] is empty: an End needs
// no bytes of its own.
//
// err is nil or an *Error, one of this package's values. The connection can't
// be read on after it.
func (p *Parser) Next(st *State, buf []byte) (n int, ev Event, err error) {
	p.forget()
	var e *Error
	switch st.phase {
	case phaseHead:
		n, ev, e = p.readHead(st, buf)
	case phaseLength:
		n, ev = p.length(st, buf)
	case phaseTrailer:
		n, ev, e = p.trailer(st, buf)
	case phaseFailed:
		e = ErrFailed
	default:
		n, ev, e = p.chunked(st, buf)
	}
	if e != nil {
		*st = State{phase: phaseFailed}
		p.data = nil
		return n, NeedMore, e
	}
	return n, ev, nil
}

// forget drops what the last call found, so that nothing is carried over into
// the next request and no caller's buffer is kept from the garbage collector.
func (p *Parser) forget() {
	p.data = nil
	if p.request.parser == nil {
		return
	}
	p.request = Request{}
	p.clearTokens()
	if p.tokens.TotalHeaders > mostFields {
		p.tokens = wildcat.NewSizedHTTPParser(fewFields)
	}
}

// clearTokens drops what wildcat found: it would keep it.
func (p *Parser) clearTokens() {
	p.tokens.Method, p.tokens.Path, p.tokens.Version = nil, nil, nil
	for i := range p.seen { // there are few: a loop is faster than clear
		h := &p.tokens.Headers[i]
		h.Name, h.Value = nil, nil
	}
	p.seen = 0
}

// readHead reads the request line and the fields.
func (p *Parser) readHead(st *State, buf []byte) (int, Event, *Error) {
	skipped := 0
	if len(buf) > 0 && buf[0] == '\r' && st.scan == 0 && !st.emptyLine {
		// RFC 9112 2.2: ignore at least one empty line before the request line.
		if len(buf) == 1 {
			return 0, NeedMore, nil
		}
		if buf[1] != '\n' {
			return 0, NeedMore, ErrLineEnd
		}
		st.emptyLine = true
		skipped = 2
		buf = buf[2:]
	}
	window := buf[:min(len(buf), p.maxHead)]
	var keep *kept
	k := kept{lines: p.kept[:0]}
	if st.scan == 0 {
		keep = &k // else lines may have gone by that aren't kept
	}
	end, err := st.gate(window, keep)
	p.kept = k.lines
	if err != nil {
		return 0, NeedMore, err
	}
	if end == 0 {
		if len(window) == p.maxHead {
			return 0, NeedMore, st.tooLong(window)
		}
		return skipped, NeedMore, nil
	}
	whole := buf[:end:end]
	matter, fields := whole, int(st.fields)
	var host []byte
	switch {
	case keep == nil:
	case k.hostAlone():
		// The gate has found its name and value; to tokenize them again would
		// take longer than all the rest.
		host = whole[k.start:k.end]
		matter, fields = k.requestLine(whole), 0
	default:
		if lines := k.head(whole); lines != nil {
			matter, fields = lines, k.fields
		}
	}
	p.kept = k.lines
	if !p.tokenize(matter, fields) {
		p.tokens, p.seen = wildcat.NewSizedHTTPParser(fewFields), 0
		return 0, NeedMore, ErrTokenizer
	}
	if err := p.accept(st, whole, host); err != nil {
		return 0, NeedMore, err
	}
	return skipped + end, Head, nil
}

// tooLong says which part of the head reached the limit.
func (st *State) tooLong(window []byte) *Error {
	if st.line > 0 {
		return ErrHeadTooLarge
	}
	if bytes.IndexByte(window, ' ') < 0 {
		return ErrMethodTooLong
	}
	return ErrTargetTooLong
}

// accept judges a complete head, of which wildcat has seen at least the lines
// that matter, but for host, if not nil: that is the only one that matters then.
// It readies st for what follows.
func (p *Parser) accept(st *State, whole, host []byte) *Error {
	r := &p.request
	r.parser = p
	r.head = whole
	r.fields = int(st.fields)
	r.whole = p.seen == r.fields
	r.Method = p.tokens.Method
	r.Target = p.tokens.Path
	if err := r.target(); err != nil {
		return err
	}
	h := head{absolute: r.TargetForm == AbsoluteForm}
	if p.tokens.Version[7] != '0' {
		h.minor = 1
	}
	if host != nil {
		name, value := host[:len("host")], host[len("host:"):]
		if err := h.field(r, name, trimSpace(value)); err != nil {
			return err
		}
	}
	for i := range p.seen {
		f := &p.tokens.Headers[i]
		if err := h.field(r, f.Name, tokenValue(f.Value)); err != nil {
			return err
		}
	}
	if err := h.judge(p.maxBody); err != nil {
		return err
	}
	h.fill(r)
	switch {
	case h.coding:
		*st = State{phase: phaseChunkSize, budget: p.maxBody}
	case r.HasBody:
		*st = State{phase: phaseLength, left: h.contentLength}
	default:
		*st = State{}
	}
	return nil
}

// tokenize lets wildcat take apart a head that has passed the gate and has that
// many fields. It tells whether wildcat agrees.
func (p *Parser) tokenize(head []byte, fields int) bool {
	p.seen = fields
	if p.tokens.TotalHeaders <= fields {
		p.tokens = wildcat.NewSizedHTTPParser(2 * fields) // wildcat grows when it is full, by ten
	}
	n, err := p.tokens.Parse(head)
	return err == nil && n == len(head) && len(p.tokens.Version) == len("HTTP/1.1") &&
		(fields == 0 || p.tokens.Headers[fields-1].Name != nil) && p.tokens.Headers[fields].Name == nil
}

// validHost tells whether v is a well-formed Host, without looking again at the
// one it has just seen.
func (p *Parser) validHost(v []byte) bool {
	if len(v) > 0 && string(v) == string(p.host) {
		return true
	}
	if !validHostPort(v) {
		return false
	}
	if len(v) <= mostHost {
		p.host = append(p.host[:0], v...)
	}
	return true
}

// length passes on a body of known length.
func (p *Parser) length(st *State, buf []byte) (int, Event) {
	if st.left == 0 {
		*st = State{}
		return 0, End
	}
	if len(buf) == 0 {
		return 0, NeedMore
	}
	n := int(min(int64(len(buf)), st.left))
	st.left -= int64(n)
	p.data = buf[:n:n]
	return n, Data
}
