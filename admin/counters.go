package admin

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/counterd/counterd/counter"
)

const (
	// topCounters is how many the live page shows.
	topCounters = 10

	// topEvery is how often it asks for them, at most.
	topEvery = 2 * time.Second

	// topShare bounds what asking may cost: a twentieth of the time.
	topShare = 20

	// listTimeout is how long a list of counters may take.
	listTimeout = 10 * time.Second

	// exportTimeout is how long /counters.csv may take in all.
	exportTimeout = 10 * time.Minute

	// How many lists and exports there may be at a time.
	maxLists   = 2
	maxExports = 1

	defaultLimit = 100
	maxLimit     = 1000

	// exportBuffer is what an export writes at once.
	exportBuffer = 32 << 10
)

// slots bounds how many do something at a time.
type slots chan struct{}

// take reports whether there was a free one, which the caller gives back.
func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) give() { <-s }

// busy answers that there is too much to do.
func busy(w http.ResponseWriter, why string, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
	http.Error(w, why, http.StatusServiceUnavailable)
}

// patient writes to a client that may take as long as it likes in all, but not
// for one piece.
type patient struct {
	w   http.ResponseWriter
	out *http.ResponseController
}

func newPatient(w http.ResponseWriter) *patient {
	return &patient{w, http.NewResponseController(w)}
}

func (p *patient) Write(b []byte) (n int, err error) {
	const piece = 16 << 10 // bytes
	for n < len(b) {
		if err := p.out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return n, err
		}
		k, err := p.w.Write(b[n:min(n+piece, len(b))])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p *patient) Flush() error { return p.out.Flush() }

// named is a counter as it is shown.
type named struct {
	Name    string `json:"name"`
	Count   int64  `json:"count"`
	Encoded bool   `json:"encoded,omitempty"`
}

func shown(c counter.Named) named {
	if utf8.ValidString(c.Name) {
		return named{Name: c.Name, Count: c.Count}
	}
	return named{Name: percentEncoded(c.Name), Count: c.Count, Encoded: true}
}

func allShown(list []counter.Named) []named {
	all := make([]named, len(list))
	for i, c := range list {
		all[i] = shown(c)
	}
	return all
}

// percentEncoded leaves of a name what is visible ASCII and not %.
func percentEncoded(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c > ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// top is what the live page shows of many counters.
type top struct {
	Names    int64   `json:"names"`
	Most     int64   `json:"most"`
	Refused  uint64  `json:"refused"`
	Counters []named `json:"counters"`
	Trouble  string  `json:"trouble"` // why they can't be listed
}

// startTop asks for the top counters if it is time and nobody asks already. The
// question may outlive ctx if the store doesn't mind it.
func (l *live) startTop(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.s.opts.Counters == nil || l.listing || time.Now().Before(l.listAgain) {
		return
	}
	l.listing = true
	go func() {
		begin := time.Now()
		t := l.s.top(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.listing = false
		l.listAgain = begin.Add(max(topEvery, topShare*time.Since(begin)))
		l.top = t
		l.publish()
	}()
}

func (s *Server) top(ctx context.Context) *top {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	t := &top{Refused: s.opts.Traffic().TooMany}
	t.Names, t.Most = s.opts.Counters.Names()
	list, err := s.opts.Counters.List(ctx, counter.Query{ByCount: true, Limit: topCounters})
	if err != nil {
		t.Trouble = err.Error()
	}
	t.Counters = allShown(list)
	return t
}

// withMany answers for the server that has one counter.
func (s *Server) withMany(h http.HandlerFunc) http.HandlerFunc {
	if s.opts.Counters != nil {
		return h
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "there is one counter here: --per=path makes one for each path", http.StatusNotFound)
	}
}

// listing is the answer of /counters.
type listing struct {
	Total    int64   `json:"total"` // the sum of all, listed or not
	Counters []named `json:"counters"`
	Next     *string `json:"next"` // null: nothing follows
}

// counters lists a part of them.
func (s *Server) counters(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !s.lists.take() {
		busy(w, "too many lists at a time", time.Second)
		return
	}
	defer s.lists.give()
	ctx, cancel := context.WithTimeout(r.Context(), listTimeout)
	defer cancel()
	page := q.Limit
	q.Limit++ // to see whether anything follows
	list, err := s.opts.Counters.List(ctx, q)
	if err != nil {
		busy(w, "store: "+err.Error(), time.Second)
		return
	}
	var answer listing
	if len(list) > page {
		list = list[:page]
		if !q.ByCount {
			next := base64.RawURLEncoding.EncodeToString([]byte(list[page-1].Name))
			answer.Next = &next
		}
	}
	answer.Counters = allShown(list)
	total, _ := s.probe.ask(ctx) // if that fails, the last known will do
	answer.Total = max(total, s.opts.Total())
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(newPatient(w)).Encode(answer) // an error means the reader has left
}

// parseQuery reads the parameters of /counters. Its errors are for the client.
func parseQuery(raw string) (counter.Query, error) {
	q := counter.Query{Limit: defaultLimit}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("bad parameters: %.100q is not a query", raw)
	}
	for name, v := range values {
		if len(v) > 1 {
			return q, fmt.Errorf("bad parameters: %.100q stands %d times", name, len(v))
		}
		switch name {
		case "prefix":
			q.Prefix = v[0]
		case "order":
			if v[0] != "name" && v[0] != "count" {
				return q, fmt.Errorf("bad parameters: order is name or count, not %.100q", v[0])
			}
			q.ByCount = v[0] == "count"
		case "limit":
			q.Limit, err = strconv.Atoi(v[0])
			if err != nil || q.Limit < 1 || q.Limit > maxLimit {
				return q, fmt.Errorf("bad parameters: limit is a number from 1 to %d, not %.100q", maxLimit, v[0])
			}
		case "after":
			after, err := base64.RawURLEncoding.DecodeString(v[0])
			if err != nil || len(after) > counter.MaxName {
				return q, fmt.Errorf("bad parameters: after is what the last page gave as next, not %.100q", v[0])
			}
			q.After = string(after)
		default:
			return q, fmt.Errorf("bad parameters: there is no %.100q; there are prefix, order, limit, after", name)
		}
	}
	if q.ByCount && q.After != "" {
		return q, fmt.Errorf("bad parameters: by count there is one page, so no after")
	}
	return q, nil
}

// countersCSV streams all counters. An export that can't be completed breaks the
// connection, so that it doesn't look complete.
func (s *Server) countersCSV(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		http.Error(w, "bad parameters: /counters.csv has none, it is all of them", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
	w.Header().Set("Content-Disposition", `attachment; filename="counters.csv"`)
	if r.Method == http.MethodHead {
		return
	}
	if !s.exports.take() {
		busy(w, "too many exports at a time", 10*time.Second)
		return
	}
	defer s.exports.give()
	ctx, cancel := context.WithTimeout(r.Context(), exportTimeout)
	defer cancel()
	out := bufio.NewWriterSize(newPatient(w), exportBuffer)
	out.WriteString("name,count,encoded\r\n")
	rows := 0
	var row []byte
	err := s.opts.Counters.Each(ctx, func(c counter.Named) error {
		if rows++; rows%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row = appendRow(row[:0], c)
		_, err := out.Write(row)
		return err
	})
	if err != nil && rows == 0 {
		w.Header().Del("Content-Disposition")
		busy(w, "store: "+err.Error(), time.Second)
		return
	}
	if err != nil || out.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
}

// appendRow appends a counter as a line of RFC 4180. The name is always in quotes,
// so that nothing in it ends its cell, whatever separator a spreadsheet expects.
func appendRow(row []byte, c counter.Named) []byte {
	n := shown(c)
	row = append(row, '"')
	if looksLikeFormula(n.Name) {
		row = append(row, '\'')
	}
	row = append(row, strings.ReplaceAll(n.Name, `"`, `""`)...)
	row = append(row, `",`...)
	row = strconv.AppendInt(row, n.Count, 10)
	row = append(row, ',')
	if n.Encoded {
		row = append(row, "true"...)
	}
	return append(row, "\r\n"...)
}

// looksLikeFormula reports whether a spreadsheet might take text for something to
// compute. A ' before it says that it is text. Text that begins with ' gets
// another, so that the first can always be taken away.
func looksLikeFormula(text string) bool {
	first, _ := utf8.DecodeRuneInString(text)
	return text != "" && strings.ContainsRune("=+-@\t\r\n'＝＋－＠", first)
}
