package engine

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

const (
	flagHead      = 1 << iota // to HEAD: no body
	flagClose                 // the last of its connection
	flagKeepAlive             // to HTTP/1.0 with keep-alive, which wants to be told
)

// answer is one answer owed to a client. What it says in the end depends on how
// its batch is settled.
type answer struct {
	err   *httpparse.Error // of a refusal
	place counter.Place    // in its batch
	kind  kind
	flags uint8
}

// asks reports whether the answer needs the store.
func (a *answer) asks() bool { return a.kind == hit || a.kind == read || a.kind == readSum }

// asks reports whether any of the answers needs the store.
func asks(answers []answer) bool {
	for i := range answers {
		if answers[i].asks() {
			return true
		}
	}
	return false
}

// render appends answers to dst, and counts them. b is their settled batch, and
// may be nil if none asks the store.
func (s *Server) render(dst []byte, answers []answer, b *counter.Batch, t *tally) []byte {
	var hits, reads uint64
	for i := range answers {
		a := &answers[i]
		switch {
		case a.kind == proceed:
			dst = append(dst, "HTTP/1.1 100 Continue\r\n\r\n"...)
			continue
		case a.kind == refusal:
			dst = s.refuse(dst, a.err, a.flags)
			continue
		}
		n, err := b.Number(a.place)
		switch {
		case errors.Is(err, counter.ErrTooMany):
			t.tooMany.Add(1)
			dst = s.appendError(dst, http.StatusInsufficientStorage, tooManyCounters, a.flags)
			continue
		case err != nil:
			t.unavailable.Add(1)
			dst = s.appendError(dst, http.StatusServiceUnavailable, unavailable(err), a.flags)
			continue
		case a.kind == hit:
			hits++
		default:
			reads++
		}
		dst = s.appendNumber(dst, n, a.flags)
	}
	if hits > 0 {
		t.hits.Add(hits)
	}
	if reads > 0 {
		t.reads.Add(reads)
	}
	return dst
}

// refuse appends an error that is known without the store, and counts it.
func (s *Server) refuse(dst []byte, e *httpparse.Error, flags uint8) []byte {
	s.stats.refuse(e)
	return s.appendError(dst, e.Status, e.Reason, flags)
}

const tooManyCounters = "too many counters"

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

func (s *Server) appendNumber(dst []byte, n int64, flags uint8) []byte {
	var buf [20]byte
	body := append(strconv.AppendInt(buf[:0], n, 10), '\n')
	dst = append(dst, *s.clock.head.Load()...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = appendEnd(dst, flags)
	if flags&flagHead != 0 {
		return dst
	}
	return append(dst, body...)
}

func (s *Server) appendError(dst []byte, status int, reason string, flags uint8) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	dst = append(dst, "\r\n"...)
	dst = append(dst, s.clock.common...)
	dst = append(dst, *s.clock.date.Load()...)
	switch status {
	case http.StatusServiceUnavailable:
		dst = append(dst, "Retry-After: 1\r\n"...)
	case http.StatusMethodNotAllowed:
		dst = append(dst, "Allow: GET, HEAD\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(reason)+1), 10)
	dst = appendEnd(dst, flags)
	if flags&flagHead != 0 {
		return dst
	}
	dst = append(dst, reason...)
	return append(dst, '\n')
}

// appendEnd ends the fields, after the value of Content-Length.
func appendEnd(dst []byte, flags uint8) []byte {
	switch {
	case flags&flagClose != 0:
		return append(dst, "\r\nConnection: close\r\n\r\n"...)
	case flags&flagKeepAlive != 0:
		return append(dst, "\r\nConnection: keep-alive\r\n\r\n"...)
	default:
		return append(dst, "\r\n\r\n"...)
	}
}
