package httpparse

import (
	"bytes"
	"math"
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

// mostHost bounds the Host that a Parser keeps, in bytes.
const mostHost = 256

// Parser turns bytes into requests. It holds what a call of Next needs, and
// nothing about any connection: that is in State. So one Parser serves all
// connections of an event loop or goroutine, but not two goroutines at a time.
type Parser struct {
	maxHead int
	maxBody int64
	tokens  tokenizer
	host    []byte // the last Host that was well-formed: most requests repeat it
	request Request
	data    []byte
}

// NewParser returns a Parser with these limits.
func NewParser(l Limits) *Parser {
	p := &Parser{
		maxHead: l.MaxHeaderBytes,
		maxBody: l.MaxBodyBytes,
		tokens:  newTokenizer(),
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
		*st = State{phase: phaseFailed, reply: Reply{HEAD: st.reply.HEAD, Close: true}}
		p.data = nil
		return n, NeedMore, e
	}
	return n, ev, nil
}

// forget drops what the last call found.
func (p *Parser) forget() {
	p.data = nil
	if p.request.parser != nil {
		p.request = Request{}
		p.tokens.clear()
	}
}

// readHead reads the request line and the fields.
func (p *Parser) readHead(st *State, buf []byte) (int, Event, *Error) {
	skipped := 0
	if len(buf) > 0 && buf[0] == '\r' && st.scan == 0 && !st.emptyLine {
		// RFC 9112 2.2: ignore at least one empty line before the request line.
		st.reply = Reply{}
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
	if st.line == 0 {
		// Known before the request line is judged: its refusal is an answer too.
		st.reply = Reply{HEAD: len(buf) >= len("HEAD ") && string(buf[:len("HEAD ")]) == "HEAD "}
	}
	window := buf[:min(len(buf), p.maxHead)]
	k := kept{lines: p.tokens.lines[:0]}
	keep := &k
	if st.scan > 0 {
		keep = nil // lines have gone by that weren't kept
	}
	end, err := st.gate(window, keep)
	p.tokens.lines = k.lines
	if err != nil {
		return 0, NeedMore, err
	}
	if end == 0 {
		if len(window) == p.maxHead {
			return 0, NeedMore, st.tooLong(window)
		}
		return skipped, NeedMore, nil
	}
	if err := p.accept(st, buf[:end:end], keep); err != nil {
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

// accept judges a complete head and readies st for what follows. keep has the
// lines of it that matter, or is nil.
func (p *Parser) accept(st *State, whole []byte, keep *kept) *Error {
	var host []byte // the one field that matters, if the tokenizer was spared it
	var ok bool
	if keep != nil {
		host, ok = p.tokens.parseKept(whole, int(st.fields), keep)
	} else {
		ok = p.tokens.parse(whole, int(st.fields))
	}
	if !ok {
		p.tokens = newTokenizer()
		return ErrTokenizer
	}
	r := &p.request
	r.parser = p
	r.head = whole
	r.fields = int(st.fields)
	r.whole = p.tokens.seen == r.fields
	r.Method = p.tokens.method()
	r.Target = p.tokens.target()
	if err := r.target(); err != nil {
		return err
	}
	h := head{absolute: r.TargetForm == AbsoluteForm, minor: min(p.tokens.minor(), 1)}
	if host != nil {
		if err := h.field(r, host[:len("host")], trimSpace(host[len("host:"):])); err != nil {
			return err
		}
	}
	for i := range p.tokens.seen {
		name, value := p.tokens.field(i)
		if err := h.field(r, name, value); err != nil {
			return err
		}
	}
	if err := h.judge(p.maxBody); err != nil {
		return err
	}
	h.fill(r)
	reply := Reply{HEAD: st.reply.HEAD, HTTP10: r.Minor == 0, Close: r.Close}
	switch {
	case h.coding:
		*st = State{phase: phaseChunkSize, budget: p.maxBody, reply: reply}
	case r.HasBody:
		*st = State{phase: phaseLength, left: h.contentLength, reply: reply}
	default:
		*st = State{reply: reply}
	}
	return nil
}

// validHost reports whether v is a well-formed Host, without looking again at the
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
		*st = State{reply: st.reply}
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
