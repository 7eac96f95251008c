package engine

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// kind is what an answer says.
type kind uint8

const (
	hit     kind = iota + 1 // the number of this hit
	read                    // the count at this place
	proceed                 // 100 Continue
	refusal                 // an error, known without the store
)

const (
	flagHead      = 1 << iota // to HEAD: no body
	flagClose                 // the last of its connection
	flagKeepAlive             // to HTTP/1.0 with keep-alive, which wants to be told
)

// answer is one answer owed to a client. What it says in the end depends on
// how its batch is settled.
type answer struct {
	err    *httpparse.Error // of a refusal
	before int32            // hits of its batch that stand before it
	kind   kind
	flags  uint8
}

// asks tells whether the answer needs the store.
func (a *answer) asks() bool { return a.kind == hit || a.kind == read }

// What the engine itself refuses, beside what the parser does.
var (
	errMethodNotAllowed = &httpparse.Error{Status: 405, Reason: "method not allowed on /count", Section: "RFC 9110 15.5.6"}
	errNotImplemented   = &httpparse.Error{Status: 501, Reason: "method not implemented", Section: "RFC 9110 15.6.2"}
	errExpectation      = &httpparse.Error{Status: 417, Reason: "unknown expectation", Section: "RFC 9110 10.1.1"}
	errSlow             = &httpparse.Error{Status: 408, Reason: "request took too long", Section: "RFC 9110 15.5.9"}
	errTooManyConns     = &httpparse.Error{Status: 503, Reason: "too many connections", Section: "RFC 9110 15.6.4"}
)

const common = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"

// appendAnswer renders an answer. b is the settled batch that it belongs to,
// and may be nil for an answer that asks nothing of the store.
func appendAnswer(dst []byte, clk *clock, a answer, b *counter.Batch) []byte {
	switch a.kind {
	case hit:
		if int64(a.before) < b.Granted {
			return appendNumber(dst, clk, a, b.First+int64(a.before))
		}
		return appendError(dst, clk, a, http.StatusServiceUnavailable, unavailable(b.Err))
	case read:
		if readable(b) {
			return appendNumber(dst, clk, a, b.First-1+min(int64(a.before), b.Granted))
		}
		return appendError(dst, clk, a, http.StatusServiceUnavailable, unavailable(b.Err))
	case proceed:
		return append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...)
	default:
		return appendError(dst, clk, a, a.err.Status, a.err.Reason)
	}
}

// readable tells whether a settled batch knows the count: a full counter does.
func readable(b *counter.Batch) bool {
	return b.Err == nil || errors.Is(b.Err, counter.ErrFull)
}

// unavailable is what a client is told of a store's error; the error itself is
// for the log, since it may name hosts and files.
func unavailable(err error) string {
	switch {
	case errors.Is(err, counter.ErrFull):
		return "counter is full"
	case errors.Is(err, counter.ErrTimeout):
		return "store did not answer in time"
	case errors.Is(err, counter.ErrOverloaded):
		return "too many hits are waiting for the store"
	default:
		return "store is unavailable"
	}
}

func appendNumber(dst []byte, clk *clock, a answer, n int64) []byte {
	var buf [20]byte
	body := append(strconv.AppendInt(buf[:0], n, 10), '\n')
	dst = append(dst, *clk.head.Load()...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = appendEnd(dst, a)
	if a.flags&flagHead != 0 {
		return dst
	}
	return append(dst, body...)
}

func appendError(dst []byte, clk *clock, a answer, status int, reason string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	dst = append(dst, "\r\n"+common...)
	dst = append(dst, *clk.date.Load()...)
	switch status {
	case http.StatusServiceUnavailable:
		dst = append(dst, "Retry-After: 1\r\n"...)
	case http.StatusMethodNotAllowed:
		dst = append(dst, "Allow: GET, HEAD\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(reason)+1), 10)
	dst = appendEnd(dst, a)
	if a.flags&flagHead != 0 {
		return dst
	}
	dst = append(dst, reason...)
	return append(dst, '\n')
}

// appendEnd ends the fields, after the value of Content-Length.
func appendEnd(dst []byte, a answer) []byte {
	switch {
	case a.flags&flagClose != 0:
		return append(dst, "\r\nConnection: close\r\n\r\n"...)
	case a.flags&flagKeepAlive != 0:
		return append(dst, "\r\nConnection: keep-alive\r\n\r\n"...)
	default:
		return append(dst, "\r\n\r\n"...)
	}
}
