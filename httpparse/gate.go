package httpparse

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// State is where one connection stands in its stream of requests. The zero
// value is a new connection. It is 64 bytes without pointers, so that a million
// of them cost the garbage collector nothing, and may be copied.
type State struct {
	left   int64 // body bytes to come: Content-Length, or the current chunk
	budget int64 // bytes that the chunked body, or its trailer, may still have

	// Offsets from the start of the head (or of a trailer line).
	scan                 int32 // everything before it was looked at
	line                 int32 // start of the current line
	colon                int32 // of the current line; at or before line: not reached yet
	methodEnd, targetEnd int32
	pathStart, pathEnd   int32
	hostStart, hostEnd   int32

	fields int32
	flags  uint16
	phase  uint8
	minor  uint8
	form   uint8
	expect uint8
}

// InMessage tells whether a request has begun and not yet ended. A skipped
// empty line before the request line does not begin one.
func (st *State) InMessage() bool { return st.phase != phaseHead || st.scan > 0 }

// InBody tells whether a request's head is complete and its body is not.
func (st *State) InBody() bool { return st.phase != phaseHead && st.phase != phaseFailed }

func (st *State) has(flag uint16) bool { return st.flags&flag != 0 }

const (
	sawEmptyLine uint16 = 1 << iota
	sawHost
	sawLength
	sawCoding   // a Transfer-Encoding field
	sawChunked  // its last coding so far is chunked
	otherCoding // a coding in front of it
	badCoding   // something no order of codings allows
	wantsClose
	wantsKeepAlive
	absoluteHost // Host is settled by the target
)

const (
	phaseHead uint8 = iota
	phaseFailed
	phaseLength
	phaseTrailer
	phaseChunkSize // and the phases of chunked
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

// gate reads on in a head: b begins with it. It returns the head's length, or 0
// while it isn't complete. Bytes are judged from left to right, each line when
// or before it is complete, so that the verdict doesn't depend on how they arrive.
func (st *State) gate(b []byte) (end int, err *Error) {
	if st.line == 0 {
		if err := st.firstLine(b); err != nil || st.line == 0 {
			return 0, err
		}
	}
	for {
		i := int(st.line)
		if i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
			return i + 2, nil
		}
		lf, err := st.fieldLine(b)
		if err != nil || lf < 0 {
			return 0, err
		}
		st.fields++
		if err := st.field(b, i, int(st.colon), lf-1); err != nil {
			return 0, err
		}
		st.line, st.scan = int32(lf+1), int32(lf+1)
	}
}

// lineEnd finds the end of a line from b[i] on: the index of its LF, or -1 and
// where to look on when more bytes have come. Anything but text and HTAB before
// it is an error.
func lineEnd(b []byte, i int) (lf, scan int, err *Error) {
	i = nextControl(b, i)
	if i == len(b) {
		return -1, i, nil
	}
	if b[i] != '\r' {
		if b[i] == '\n' {
			return -1, i, ErrLineEnd
		}
		return -1, i, ErrControl
	}
	if i+1 == len(b) {
		return -1, i, nil
	}
	if b[i+1] != '\n' {
		return -1, i, ErrLineEnd
	}
	return i + 1, i, nil
}

func (st *State) firstLine(b []byte) *Error {
	if len(b) > 0 && b[0] == '\r' {
		return ErrRequestLine // a second empty line
	}
	lf, scan, err := lineEnd(b, int(st.scan))
	st.scan = int32(scan)
	if err != nil || lf < 0 {
		return err
	}
	if err := st.requestLine(b[:lf-1]); err != nil {
		return err
	}
	st.line, st.scan = int32(lf+1), int32(lf+1)
	return nil
}

// fieldLine reads on in the field line at st.line and returns the index of its
// LF, or -1 while it isn't complete. st.colon is then its colon.
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
			return -1, st.badName(b, i)
		}
		st.colon = int32(i)
		i++
	}
	lf, scan, err := lineEnd(b, i)
	st.scan = int32(scan)
	return lf, err
}

// badName says why the name of a field line ends at b[i].
func (st *State) badName(b []byte, i int) *Error {
	space := b[i] == ' ' || b[i] == '\t'
	atStart := i == int(st.line)
	switch {
	case b[i] == '\r' && atStart && i+1 == len(b):
		return nil // perhaps the CR of the empty line
	case b[i] == '\r' && atStart, b[i] == '\n':
		return ErrLineEnd
	case space && atStart:
		return ErrFold
	case space:
		return ErrFieldColon
	}
	return ErrFieldName
}

// nextControl returns the index of the first control byte other than HTAB, or
// DEL, in b[i:], or len(b). It looks at eight bytes at a time.
func nextControl(b []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for {
		for ; i+8 <= len(b); i += 8 {
			x := binary.LittleEndian.Uint64(b[i:])
			// A byte's high bit in m tells: it is below 0x20, or 0x7F. Borrows
			// spoil only bytes behind the first that is.
			m := ((x - 0x20*ones) | ((x ^ 0x7f*ones) - ones)) &^ x & highs
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
		}
		for i < len(b) && classes[b[i]]&text != 0 {
			i++
		}
		if i == len(b) || b[i] != '\t' {
			return i
		}
		i++
	}
}

// field takes note of a field that concerns framing, routing or the connection.
// Its name is b[start:colon], its value lies in b[colon+1:end].
func (st *State) field(b []byte, start, colon, end int) *Error {
	name := b[start:colon]
	switch len(name) {
	case 4:
		if equalFold(name, "host") {
			return st.hostField(b, colon+1, end)
		}
	case 6:
		if equalFold(name, "expect") {
			st.expectField(b[colon+1 : end])
		}
	case 10:
		if equalFold(name, "connection") {
			st.connectionField(b[colon+1 : end])
		}
	case 14:
		if equalFold(name, "content-length") {
			return st.lengthField(trimSpace(b[colon+1 : end]))
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			st.codingField(b[colon+1 : end])
		}
	}
	return nil
}

func (st *State) hostField(b []byte, start, end int) *Error {
	if st.has(sawHost) {
		return ErrHostRepeated
	}
	st.flags |= sawHost
	for start < end && isSpace(b[start]) {
		start++
	}
	for start < end && isSpace(b[end-1]) {
		end--
	}
	if start == end {
		if st.minor > 0 {
			return ErrHost
		}
		return nil
	}
	if !validHostPort(b[start:end]) {
		return ErrHost
	}
	if !st.has(absoluteHost) {
		st.hostStart, st.hostEnd = int32(start), int32(end)
	}
	return nil
}

func (st *State) expectField(value []byte) {
	for len(value) > 0 {
		var member []byte
		member, value = nextMember(value)
		switch {
		case len(member) == 0:
		case !equalFold(member, "100-continue"):
			st.expect = ExpectUnknown
		case st.expect == ExpectNone && st.minor > 0:
			st.expect = ExpectContinue
		}
	}
}

func (st *State) connectionField(value []byte) {
	for len(value) > 0 {
		var member []byte
		member, value = nextMember(value)
		if equalFold(member, "close") {
			st.flags |= wantsClose
		}
		if equalFold(member, "keep-alive") {
			st.flags |= wantsKeepAlive
		}
	}
}

func (st *State) lengthField(value []byte) *Error {
	if st.has(sawLength) {
		return ErrLengthTwice
	}
	st.flags |= sawLength
	if len(value) == 0 {
		return ErrLength
	}
	const tenth = (1<<63 - 1) / 10
	var n int64
	for _, c := range value {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > tenth {
			return ErrLength
		}
		n = n*10 + d
		if n < 0 {
			return ErrLength
		}
	}
	st.left = n
	return nil
}

// codingField notes the codings of a Transfer-Encoding. Several lines are one
// list. Empty members are refused, not skipped: readers differ over them.
func (st *State) codingField(value []byte) {
	st.flags |= sawCoding
	for {
		var member []byte
		i := bytes.IndexByte(value, ',')
		if i < 0 {
			member = trimSpace(value)
		} else {
			member = trimSpace(value[:i])
		}
		st.coding(member)
		if i < 0 {
			return
		}
		value = value[i+1:]
	}
}

func (st *State) coding(member []byte) {
	if st.has(sawChunked) {
		st.flags |= badCoding // chunked was not the last
	}
	if equalFold(member, "chunked") {
		st.flags |= sawChunked
		return
	}
	st.flags |= otherCoding
	name, _, _ := bytes.Cut(member, []byte{';'})
	name = trimSpace(name)
	if !isToken(name) || equalFold(name, "chunked") {
		st.flags |= badCoding
	}
}

// judge decides what only the whole head can tell.
func (st *State) judge(maxBody int64) *Error {
	if st.minor > 0 && !st.has(sawHost) {
		return ErrHostMissing
	}
	if !st.has(sawCoding) {
		if st.left > maxBody {
			return ErrBodyTooLarge
		}
		return nil
	}
	switch {
	case st.minor == 0:
		return ErrCodingVersion
	case st.has(sawLength):
		return ErrLengthCoding
	case st.has(badCoding) || !st.has(sawChunked):
		return ErrCoding
	case st.has(otherCoding):
		return ErrCodingUnknown
	}
	return nil
}
