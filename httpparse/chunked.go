package httpparse

import "math"

// chunked reads on in a chunked body, RFC 9112 7.1, byte by byte where it is
// framing. Framing is consumed as it comes, so that an endless extension costs
// no memory.
func (p *Parser) chunked(st *State, buf []byte) (int, Event, *Error) {
	for i := 0; i < len(buf); i++ {
		if st.phase == phaseChunkData {
			n := int(min(int64(len(buf)-i), st.left))
			if st.left -= int64(n); st.left == 0 {
				st.phase = phaseChunkEndCR
			}
			p.data = buf[i : i+n : i+n]
			return i + n, Data, nil
		}
		if st.budget == 0 {
			return i, NeedMore, ErrBodyTooLarge
		}
		st.budget--
		if err := st.chunkByte(buf[i]); err != nil {
			return i, NeedMore, err
		}
		if st.phase == phaseTrailer {
			st.budget = int64(p.maxHead)
			n, ev, err := p.trailer(st, buf[i+1:])
			return i + 1 + n, ev, err
		}
	}
	return len(buf), NeedMore, nil
}

// chunkByte takes one byte of framing.
//
//	chunk     = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//	chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
func (st *State) chunkByte(c byte) *Error {
	switch st.phase {
	case phaseChunkSize:
		if !isHex(c) {
			return ErrChunkSize
		}
		st.phase = phaseChunkDigits
		return st.chunkDigit(c)
	case phaseChunkDigits:
		if isHex(c) {
			return st.chunkDigit(c)
		}
		if !st.endOfExt(c) {
			return ErrChunkSize
		}
	case phaseChunkSpace:
		switch {
		case isSpace(c):
		case c == ';':
			st.phase = phaseExtStart
		default:
			return ErrChunkExt
		}
	case phaseExtStart:
		switch {
		case isSpace(c):
		case classes[c]&tchar != 0:
			st.phase = phaseExtName
		default:
			return ErrChunkExt
		}
	case phaseExtName:
		switch {
		case classes[c]&tchar != 0:
		case isSpace(c):
			st.phase = phaseExtNameSpace
		case c == '=':
			st.phase = phaseExtEqual
		case !st.endOfExt(c):
			return ErrChunkExt
		}
	case phaseExtNameSpace:
		switch {
		case isSpace(c):
		case c == '=':
			st.phase = phaseExtEqual
		case c == ';':
			st.phase = phaseExtStart
		default:
			return ErrChunkExt
		}
	case phaseExtEqual:
		switch {
		case isSpace(c):
		case c == '"':
			st.phase = phaseExtQuoted
		case classes[c]&tchar != 0:
			st.phase = phaseExtToken
		default:
			return ErrChunkExt
		}
	case phaseExtToken:
		if classes[c]&tchar == 0 && !st.endOfExt(c) {
			return ErrChunkExt
		}
	case phaseExtQuoted:
		switch {
		case c == '"':
			st.phase = phaseExtQuotedEnd
		case c == '\\':
			st.phase = phaseExtEscape
		case classes[c]&text == 0 && c != '\t':
			return ErrChunkExt
		}
	case phaseExtEscape:
		if classes[c]&text == 0 && c != '\t' {
			return ErrChunkExt
		}
		st.phase = phaseExtQuoted
	case phaseExtQuotedEnd:
		if !st.endOfExt(c) {
			return ErrChunkExt
		}
	case phaseChunkLF:
		return st.chunkLine(c)
	case phaseChunkEndCR:
		if c != '\r' {
			return ErrChunkEnd
		}
		st.phase = phaseChunkEndLF
	case phaseChunkEndLF:
		if c != '\n' {
			return ErrChunkEnd
		}
		st.phase = phaseChunkSize
	}
	return nil
}

// endOfExt takes a byte that may follow a chunk size or a whole extension.
func (st *State) endOfExt(c byte) bool {
	switch {
	case c == '\r':
		st.phase = phaseChunkLF
	case c == ';':
		st.phase = phaseExtStart
	case isSpace(c):
		st.phase = phaseChunkSpace
	default:
		return false
	}
	return true
}

func (st *State) chunkDigit(c byte) *Error {
	if st.left > math.MaxInt64>>4 {
		return ErrChunkSize
	}
	st.left = st.left<<4 | int64(hexValue(c))
	return nil
}

// hexValue of a hex digit.
func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// chunkLine takes the LF of a chunk's first line.
func (st *State) chunkLine(c byte) *Error {
	if c != '\n' {
		return ErrChunkEnd
	}
	if st.left == 0 {
		st.phase = phaseTrailer
		return nil
	}
	if st.left > st.budget {
		return ErrBodyTooLarge // no need to wait for what can't be accepted
	}
	st.budget -= st.left
	st.phase = phaseChunkData
	return nil
}

// trailer reads on in the trailer section. Lines are consumed one by one.
func (p *Parser) trailer(st *State, buf []byte) (int, Event, *Error) {
	n := 0
	for {
		b := buf[n:]
		b = b[:min(int64(len(b)), st.budget)]
		lf, err := st.fieldLine(b)
		if err != nil {
			return n, NeedMore, err
		}
		if lf < 0 {
			if int64(len(b)) == st.budget {
				return n, NeedMore, ErrTrailerTooLarge
			}
			return n, NeedMore, nil
		}
		if lf == 1 {
			*st = State{reply: st.reply}
			return n + 2, End, nil
		}
		if forbiddenInTrailer(b[:st.colon]) {
			return n, NeedMore, ErrTrailer
		}
		n += lf + 1
		st.budget -= int64(lf + 1)
		st.scan, st.colon = 0, 0
	}
}

// forbiddenInTrailer reports whether a field must not come in a trailer section,
// RFC 9110 6.5.1: it would change framing, routing, authentication, the
// meaning of the request, or how its content is read.
func forbiddenInTrailer(name []byte) bool {
	for _, f := range trailerForbidden {
		if equalFold(name, f) {
			return true
		}
	}
	return false
}

var trailerForbidden = [...]string{
	// Framing and the connection.
	"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
	// Routing and request modifiers.
	"cache-control", "expect", "host", "max-forwards", "pragma", "range",
	"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
	// Authentication.
	"authorization", "cookie", "proxy-authorization",
	"proxy-authenticate", "set-cookie", "www-authenticate",
	// How content is read.
	"content-encoding", "content-range", "content-type",
	// Control of a response.
	"age", "date", "expires", "location", "retry-after", "vary", "warning",
}
