package httpparse

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Continue is the whole interim answer to a request whose Expect is
// ExpectContinue. It leaves after all earlier answers, and the final one is still
// to come.
const Continue = "HTTP/1.1 100 Continue\r\n\r\n"

// Reply says how an answer goes out. State.Reply has it for each request; who
// wants to close sets Close.
type Reply struct {
	HEAD   bool // to HEAD: it has no body (RFC 9110 9.3.2)
	HTTP10 bool // to HTTP/1.0: no chunks, and it is told that the connection persists
	Close  bool // the last of its connection (RFC 9112 9.6)
}

// Field is a field line, checked and rendered. The zero value is none at all.
type Field struct{ line string }

// NewField returns the field of this name and value, or an error if the name is
// no token, the value has a control other than HTAB (so that no CR, LF or NUL can
// end the line before its time, RFC 9110 5.5), or Response writes the field
// itself: Date, Content-Length, Transfer-Encoding and Connection.
func NewField(name, value string) (Field, error) {
	if !isToken([]byte(name)) {
		return Field{}, fmt.Errorf("httpparse: field name %q is no token", name)
	}
	switch strings.ToLower(name) {
	case "date", "content-length", "transfer-encoding", "connection":
		return Field{}, fmt.Errorf("httpparse: field %s belongs to Response", name)
	}
	if i := nextControl([]byte(value), 0); i < len(value) {
		return Field{}, fmt.Errorf("httpparse: field %s has a control byte in its value %q", name, value)
	}
	return Field{name + ": " + value + "\r\n"}, nil
}

// MustField is NewField for fields that the program itself chooses. It panics
// where NewField returns an error.
func MustField(name, value string) Field {
	f, err := NewField(name, value)
	if err != nil {
		panic(err)
	}
	return f
}

// Date renders the time for answers, once a second. Any number of goroutines may
// use one. The zero value, and nil, are a server without a clock: its answers have
// no Date (RFC 9110 6.6.1).
type Date struct{ now atomic.Pointer[renderedDate] }

type renderedDate struct {
	second int64
	line   [len("Date: " + http.TimeFormat + "\r\n")]byte
}

// NewDate returns a Date that stands at now.
func NewDate(now time.Time) *Date {
	d := new(Date)
	d.Set(now)
	return d
}

// Set moves d to now. Call it at least once a second: from a ticker, or before each
// burst of answers. While the second is the same it costs a load.
func (d *Date) Set(now time.Time) {
	second := now.Unix()
	if last := d.now.Load(); last != nil && last.second == second {
		return
	}
	next := &renderedDate{second: second}
	line := now.UTC().AppendFormat(append(next.line[:0], "Date: "...), http.TimeFormat)
	copy(next.line[len(line):], "\r\n")
	d.now.Store(next)
}

// Response is what answers of one kind have in common, rendered once: the status
// line and fields. Any number of goroutines may use one.
//
// Its methods append to dst as the built-in append does: dst may move, and what
// is returned belongs to the caller. They allocate only where dst has no room.
// They write the rest of the head: Date, the fields of more, and what frames the
// answer and ends the connection (RFC 9112 6, 9.3), so that these can't
// contradict each other. An answer of status 1xx, 204 or 304, and one to HEAD, has
// no body, whatever it is given.
type Response struct {
	start    string
	interim  bool // 1xx: nothing but fields
	bodiless bool // 1xx, 204, 304: no body, and no Content-Length either
}

// NewResponse returns a Response of this status, with these fields in this order.
// It panics if status isn't 100 to 599, or is 101: after that no HTTP follows.
func NewResponse(status int, fields ...Field) *Response {
	if status < 100 || status > 599 || status == http.StatusSwitchingProtocols {
		panic(fmt.Sprintf("httpparse: no response of status %d", status))
	}
	start := fmt.Sprintf("HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, f := range fields {
		start += f.line
	}
	return &Response{
		start:    start,
		interim:  status < 200,
		bodiless: status < 200 || status == http.StatusNoContent || status == http.StatusNotModified,
	}
}

// Append appends a whole answer with this body.
func (r *Response) Append(dst []byte, d *Date, reply Reply, body []byte, more ...Field) []byte {
	dst = r.AppendHead(dst, d, reply, int64(len(body)), more...)
	if r.bodiless || reply.HEAD {
		return dst
	}
	return append(dst, body...)
}

// AppendHead appends the head of an answer whose body has this length, and panics
// if that is negative. The body is the caller's to send, unless the answer has
// none.
func (r *Response) AppendHead(dst []byte, d *Date, reply Reply, length int64, more ...Field) []byte {
	if length < 0 {
		panic("httpparse: the length of a body is negative")
	}
	dst = r.appendStart(dst, d, more)
	if !r.bodiless {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		dst = append(dst, "\r\n"...)
	}
	return r.appendEnd(dst, reply)
}

// appendStart appends the head up to what frames the answer.
func (r *Response) appendStart(dst []byte, d *Date, more []Field) []byte {
	dst = append(dst, r.start...)
	if d != nil && !r.interim {
		if now := d.now.Load(); now != nil {
			dst = append(dst, now.line[:]...)
		}
	}
	for _, f := range more {
		dst = append(dst, f.line...)
	}
	return dst
}

// appendEnd ends the head.
func (r *Response) appendEnd(dst []byte, reply Reply) []byte {
	switch {
	case r.interim:
	case reply.Close:
		return append(dst, "Connection: close\r\n\r\n"...)
	case reply.HTTP10:
		return append(dst, "Connection: keep-alive\r\n\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// Body writes a body whose length isn't known beforehand.
type Body struct {
	// Close: the connection has to be closed behind the body. That is so where
	// Reply.Close is, and for HTTP/1.0, which has no other end for it.
	Close  bool
	framed bool // in chunks
	none   bool
}

// AppendStream appends the head of an answer whose length isn't known, and returns
// what writes its body: in chunks (RFC 9112 7.1), or as it is to HTTP/1.0.
func (r *Response) AppendStream(dst []byte, d *Date, reply Reply, more ...Field) ([]byte, Body) {
	none := r.bodiless || reply.HEAD
	body := Body{Close: reply.Close, framed: !none && !reply.HTTP10, none: none}
	dst = r.appendStart(dst, d, more)
	switch {
	case r.bodiless:
	case !reply.HTTP10:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case !none:
		body.Close, reply.Close = true, true
	}
	return r.appendEnd(dst, reply), body
}

// Append appends data as the next part of the body. No data is no part.
func (b Body) Append(dst, data []byte) []byte {
	if b.none || len(data) == 0 {
		return dst // a chunk of no octets would be the last
	}
	if !b.framed {
		return append(dst, data...)
	}
	dst = strconv.AppendInt(dst, int64(len(data)), 16)
	dst = append(dst, "\r\n"...)
	dst = append(dst, data...)
	return append(dst, "\r\n"...)
}

// AppendEnd appends the end of the body. An answer is complete only with it: a
// client that doesn't find it knows that something is missing.
func (b Body) AppendEnd(dst []byte) []byte {
	if !b.framed {
		return dst
	}
	return append(dst, "0\r\n\r\n"...)
}
