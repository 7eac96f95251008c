package engine

import (
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// answer is one answer owed to a client. What it says in the end depends on how
// its batch is settled.
type answer struct {
	err   *httpparse.Error // of a refusal
	place counter.Place    // in its batch
	kind  kind
	reply httpparse.Reply
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
			dst = append(dst, httpparse.Continue...)
			continue
		case a.kind == refusal:
			dst = s.refuse(dst, a.err, a.reply)
			continue
		}
		n, err := b.Number(a.place)
		switch {
		case errors.Is(err, counter.ErrTooMany):
			t.tooMany.Add(1)
			dst = s.appendError(dst, http.StatusInsufficientStorage, tooManyCounters, a.reply)
			continue
		case err != nil:
			t.unavailable.Add(1)
			dst = s.appendError(dst, http.StatusServiceUnavailable, unavailable(err), a.reply)
			continue
		case a.kind == hit:
			hits++
		default:
			reads++
		}
		var buf [20]byte
		body := append(strconv.AppendInt(buf[:0], n, 10), '\n')
		dst = s.responses.number.Append(dst, &s.clock.date, a.reply, body)
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
func (s *Server) refuse(dst []byte, e *httpparse.Error, reply httpparse.Reply) []byte {
	s.stats.refuse(e)
	return s.appendError(dst, e.Status, e.Reason, reply)
}

// appendError appends an error with its one line of reason. It may allocate.
func (s *Server) appendError(dst []byte, status int, reason string, reply httpparse.Reply) []byte {
	var buf [64]byte
	body := append(append(buf[:0], reason...), '\n')
	switch status {
	case http.StatusServiceUnavailable:
		return s.responses.of(status).Append(dst, &s.clock.date, reply, body, retryAfter)
	case http.StatusMethodNotAllowed:
		return s.responses.of(status).Append(dst, &s.clock.date, reply, body, allow)
	default:
		return s.responses.of(status).Append(dst, &s.clock.date, reply, body)
	}
}

// responses are what the answers of a server have in common, rendered once.
type responses struct {
	fields  []httpparse.Field
	number  *httpparse.Response
	refusal sync.Map // status → *httpparse.Response
}

var (
	contentType  = httpparse.MustField("Content-Type", "text/plain; charset=utf-8")
	cacheControl = httpparse.MustField("Cache-Control", "no-store")
	retryAfter   = httpparse.MustField("Retry-After", "1")
	allow        = httpparse.MustField("Allow", "GET, HEAD")
)

// newResponses are those whose answers pages of the origin cors may read; empty:
// none.
func newResponses(cors string) (*responses, error) {
	r := &responses{fields: []httpparse.Field{contentType, cacheControl}}
	if cors != "" {
		f, err := httpparse.NewField("Access-Control-Allow-Origin", cors)
		if err != nil {
			return nil, err
		}
		r.fields = append(r.fields, f)
	}
	r.number = httpparse.NewResponse(http.StatusOK, r.fields...)
	return r, nil
}

func (r *responses) of(status int) *httpparse.Response {
	if x, ok := r.refusal.Load(status); ok {
		return x.(*httpparse.Response)
	}
	x, _ := r.refusal.LoadOrStore(status, httpparse.NewResponse(status, r.fields...))
	return x.(*httpparse.Response)
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
