package httpparse

import "bytes"

// head is what the fields of one head say, as they are read.
type head struct {
	minor uint8
	// absolute: the target names the host, so Host must stand once and means
	// nothing (RFC 9112 3.2.2).
	absolute bool

	host, length, coding   bool // seen
	chunked                bool // the last coding so far
	otherCoding, badCoding bool
	close, keepAlive       bool
	contentLength          int64
	expect                 Expectation
}

// field takes note of a field that concerns framing, routing or the connection.
func (h *head) field(r *Request, name, value []byte) *Error {
	switch len(name) {
	case len("host"):
		if equalFold(name, "host") {
			return h.hostField(r, value)
		}
	case len("expect"):
		if equalFold(name, "expect") {
			h.expectField(value)
		}
	case len("connection"):
		if equalFold(name, "connection") {
			h.connectionField(value)
		}
	case len("content-length"):
		if equalFold(name, "content-length") {
			return h.lengthField(value)
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			h.codingField(value)
		}
	}
	return nil
}

func (h *head) hostField(r *Request, value []byte) *Error {
	if h.host {
		return ErrHostRepeated
	}
	h.host = true
	if h.absolute || len(value) == 0 && h.minor == 0 {
		return nil
	}
	if !r.parser.validHost(value) {
		return ErrHost
	}
	if r.Host == nil {
		r.Host = value
	}
	return nil
}

func (h *head) expectField(value []byte) {
	for len(value) > 0 {
		var member []byte
		member, value = nextMember(value)
		switch {
		case len(member) == 0:
		case !equalFold(member, "100-continue"):
			h.expect = ExpectUnknown
		case h.expect == ExpectNone && h.minor > 0:
			h.expect = ExpectContinue
		}
	}
}

func (h *head) connectionField(value []byte) {
	for len(value) > 0 {
		var member []byte
		member, value = nextMember(value)
		if equalFold(member, "close") {
			h.close = true
		}
		if equalFold(member, "keep-alive") {
			h.keepAlive = true
		}
	}
}

func (h *head) lengthField(value []byte) *Error {
	if h.length {
		return ErrLengthTwice
	}
	h.length = true
	if len(value) == 0 {
		return ErrLength
	}
	const tenth = (1<<63 - 1) / 10
	var n int64
	for _, c := range value {
		if !isDigit(c) || n > tenth {
			return ErrLength
		}
		n = n*10 + int64(c-'0')
		if n < 0 {
			return ErrLength
		}
	}
	h.contentLength = n
	return nil
}

// codingField notes the codings of a Transfer-Encoding. Several lines are one
// list. Empty members are refused, not skipped: readers differ over them.
func (h *head) codingField(value []byte) {
	h.coding = true
	for more := true; more; {
		var member []byte
		member, value, more = bytes.Cut(value, []byte{','})
		h.transferCoding(trimSpace(member))
	}
}

func (h *head) transferCoding(member []byte) {
	if h.chunked {
		h.badCoding = true // chunked was not the last
	}
	if equalFold(member, "chunked") {
		h.chunked = true
		return
	}
	h.otherCoding = true
	name, _, _ := bytes.Cut(member, []byte{';'})
	name = trimSpace(name)
	if !isToken(name) || equalFold(name, "chunked") {
		h.badCoding = true
	}
}

// judge decides what only the whole head can tell.
func (h *head) judge(maxBody int64) *Error {
	switch {
	case h.minor > 0 && !h.host:
		return ErrHostMissing
	case !h.coding && h.contentLength > maxBody:
		return ErrBodyTooLarge
	case !h.coding:
		return nil
	case h.minor == 0:
		return ErrCodingVersion
	case h.length:
		return ErrLengthCoding
	case h.badCoding || !h.chunked:
		return ErrCoding
	case h.otherCoding:
		return ErrCodingUnknown
	case maxBody < int64(len("0\r\n")): // not even the last chunk fits
		return ErrBodyTooLarge
	}
	return nil
}

// fill puts into r what h says.
func (h *head) fill(r *Request) {
	r.Minor = h.minor
	r.Close = h.close || h.minor == 0 && !h.keepAlive
	r.ContentLength = h.contentLength
	if h.coding {
		r.ContentLength = -1
	}
	r.HasBody = r.ContentLength != 0
	r.Expect = h.expect
	if r.Expect == ExpectContinue && !r.HasBody {
		r.Expect = ExpectNone // nothing to wait for
	}
}
