package httpparse

import (
	"encoding/binary"
	"math/bits"
)

// State is where one connection stands in its stream of requests. The zero
// value is a new connection. It is under 64 bytes, without pointers, so that
// many of them cost the garbage collector nothing, and may be copied.
type State struct {
	left   int64 // body bytes to come: of the Content-Length, or of the current chunk
	budget int64 // bytes that the chunked body, or its trailer, may still have

	// Offsets from the start of the head, or of a trailer line.
	scan  int32 // everything before it was looked at
	line  int32 // start of the current line
	colon int32 // of the current line; at or before line: not reached yet

	fields int32 // field lines seen
	phase  phase
	// emptyLine: the one empty line before the request line was skipped.
	emptyLine bool
	reply     Reply
}

// Reply returns what an answer has to know of the request that the last Next
// read of, whether that is complete, refused, or not yet either.
func (st *State) Reply() Reply { return st.reply }

// InMessage reports whether a request has begun and not yet ended. A skipped
// empty line before the request line does not begin one.
func (st *State) InMessage() bool { return st.phase != phaseHead || st.scan > 0 }

// InBody reports whether a request's head is complete and its body is not.
func (st *State) InBody() bool { return st.phase > phaseFailed }

// phase is what a State reads next.
type phase uint8

const (
	phaseHead phase = iota
	phaseFailed
	phaseLength
	phaseTrailer
	phaseChunkSize // and the other phases of chunked
	phaseChunkDigits
	phaseChunkSpace
	phaseExtStart
	phaseExtName
	phaseExtNameSpace
	phaseExtEqual
	phaseExtToken
	phaseExtQuoted
	phaseExtEscape
	phaseExtQuotedEnd
	phaseChunkLF
	phaseChunkData
	phaseChunkEndCR
	phaseChunkEndLF
)

// gate reads on in a head, with which b begins. It returns the head's length,
// or 0 while the head isn't complete. Octets are judged from left to right, and
// none is looked at twice, so that neither the verdict nor its cost depends on
// how they arrive. What passes, wildcat can't misread: every line ends in CRLF,
// the request line is three words, every field line has a token, a colon and a
// value without controls, and none begins with whitespace.
//
// The lines that matter to the parser are gathered in keep, if not nil.
func (st *State) gate(b []byte, keep *kept) (end int, err *Error) {
	if st.line == 0 {
		if err := st.firstLine(b); err != nil || st.line == 0 {
			return 0, err
		}
	}
	for {
		lf, err := st.fieldLine(b)
		if err != nil || lf < 0 {
			return 0, err
		}
		line := int(st.line)
		st.line, st.scan = int32(lf+1), int32(lf+1)
		if lf == line+1 {
			return lf + 1, nil // the empty line
		}
		st.fields++
		if keep != nil {
			keep.line(b, line, int(st.colon), lf-1)
		}
	}
}

// firstLine reads on in the request line. st.line moves behind it when it is complete.
func (st *State) firstLine(b []byte) *Error {
	if len(b) > 0 && b[0] == '\r' {
		return ErrRequestLine // a second empty line
	}
	i := nextControl(b, int(st.scan))
	if i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
		st.line, st.scan = int32(i+2), int32(i+2)
		return requestLine(b[:i])
	}
	st.scan = int32(i)
	return noLineEnd(b, i)
}

// requestLine judges the shape of a complete request line, without its CRLF.
// The version comes before the target: HTTP/2's preface deserves to be told
// its version.
func requestLine(line []byte) *Error {
	i := 0
	for i < len(line) && classes[line[i]]&tchar != 0 {
		i++
	}
	if i == len(line) {
		return ErrRequestLine
	}
	if i == 0 || line[i] != ' ' {
		return ErrMethod
	}
	start := i + 1
	i = start
	for i < len(line) && classes[line[i]]&targetchar != 0 {
		i++
	}
	end := i
	for i < len(line) && line[i] != ' ' {
		i++
	}
	if i == start || i == len(line) { // no target, or nothing behind it
		return ErrRequestLine
	}
	if err := version(line[i+1:]); err != nil {
		return err
	}
	if end < i {
		return ErrTarget
	}
	return nil
}

func version(v []byte) *Error {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || !isDigit(v[5]) || !isDigit(v[7]) {
		return ErrVersion
	}
	if v[5] != '1' {
		return ErrMajor
	}
	return nil
}

// fieldLine reads on in the field line at st.line and returns the index of its
// LF, or -1 while it isn't complete. st.colon is then its colon, unless the
// line is empty.
func (st *State) fieldLine(b []byte) (lf int, err *Error) {
	i := int(st.scan)
	if st.colon <= st.line {
		for i < len(b) && classes[b[i]]&tchar != 0 {
			i++
		}
		st.scan = int32(i)
		if i == len(b) {
			return -1, nil
		}
		if b[i] != ':' || i == int(st.line) {
			return st.noName(b, i)
		}
		st.colon = int32(i)
		i++
	}
	i = nextControl(b, i)
	if i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
		return i + 1, nil
	}
	st.scan = int32(i)
	return -1, noLineEnd(b, i)
}

// noName takes a line whose name ends at b[i] without a colon: the empty line,
// or an error.
func (st *State) noName(b []byte, i int) (lf int, err *Error) {
	c := b[i]
	atStart := i == int(st.line)
	switch {
	case c == '\r' && atStart && i+1 == len(b):
		return -1, nil
	case c == '\r' && atStart && b[i+1] == '\n':
		return i + 1, nil
	case c == '\r' && atStart, c == '\n':
		return -1, ErrLineEnd
	case isSpace(c) && atStart:
		return -1, ErrFold
	case isSpace(c):
		return -1, ErrFieldColon
	}
	return -1, ErrFieldName
}

// noLineEnd says why the control at b[i] does not end its line, or nil if a
// line end may yet come: only text and HTAB may stand before it.
func noLineEnd(b []byte, i int) *Error {
	switch {
	case i == len(b):
		return nil
	case b[i] == '\n':
		return ErrLineEnd
	case b[i] != '\r':
		return ErrControl
	case i+1 < len(b):
		return ErrLineEnd
	}
	return nil
}

// nextControl returns the index of the first control octet other than HTAB, or
// DEL, in b[i:], or len(b). It looks at eight octets at a time.
func nextControl(b []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		// The high bit of an octet in m tells: it is below 0x20, or is 0x7F.
		// Borrows spoil only octets behind the first such.
		m := ((x - 0x20*ones) | ((x ^ 0x7f*ones) - ones)) &^ x & highs
		if m == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(m) >> 3
		if b[i] != '\t' {
			return i
		}
		i++
	}
	for ; i < len(b); i++ {
		if classes[b[i]]&text == 0 && b[i] != '\t' {
			return i
		}
	}
	return i
}
