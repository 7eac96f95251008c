package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of Score.
const (
	scorePatience = time.Second            // for one row
	scoreQuiet    = 250 * time.Millisecond // for an answer too many
	scoreAtOnce   = 32                     // rows
	scoreLongest  = 8000                   // bytes of a row: what RFC 9112 3 wants a server to have room for
)

// Score puts the HTTP/1.1 server at addr, which must answer any request with a
// 2xx, through the rows of the table that say of any such server how it has to
// read its requests: it returns how many it keeps, of how many, and the names of
// those it does not, in the table's order.
//
// Counted are the rows whose level is MUST or SHOULD. Left out are what the RFCs
// leave to the server, limits, and counterd's own contract. A row is kept if each
// of its requests gets an answer of the right kind (2xx, or any 4xx or 5xx), there
// is none too many, HEAD gets no body, and the connection then serves another
// request or closes, whichever the row says. Where the RFCs allow a second
// reading, that keeps the row too.
//
// A row has about a second, and 32 are tried at once; one that is late is tried
// once more. An error says that the server answers no plain request, before,
// between or after rows, or that ctx ended.
func Score(ctx context.Context, addr string) (kept, all int, failed []string, err error) {
	rows := scoredRows()
	if err := answersPlainly(ctx, addr); err != nil {
		return 0, len(rows), nil, err
	}
	fails := make([]bool, len(rows))
	next := make(chan int)
	var wg sync.WaitGroup
	for range scoreAtOnce {
		wg.Go(func() {
			for i := range next {
				fails[i] = !keepsRow(ctx, addr, rows[i])
			}
		})
	}
	for i := range rows {
		next <- i // a row ends at once when ctx has ended
	}
	close(next)
	wg.Wait()
	if err := answersPlainly(ctx, addr); err != nil {
		return 0, len(rows), nil, err
	}
	for i, row := range rows {
		if fails[i] {
			failed = append(failed, row.Name)
		}
	}
	return len(rows) - len(failed), len(rows), failed, nil
}

// answersPlainly tries twice: a busy machine is no reason to give a server up.
func answersPlainly(ctx context.Context, addr string) error {
	row := Row{Bytes: get(""), Want: want(hit)}
	err := readsRow(ctx, addr, row, row.Want)
	if err != nil && ctx.Err() == nil {
		err = readsRow(ctx, addr, row, row.Want)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // not the error of the connection that was closed for it
	}
	if err != nil {
		return fmt.Errorf("answers no plain request: %w", err)
	}
	return nil
}

// scoredRows are the rows that any server can be put through.
func scoredRows() []Row {
	return slices.DeleteFunc(slices.Clone(Rows), func(r Row) bool {
		return r.Level != Must && r.Level != Should || r.Engine || r.Open || len(r.Bytes) > scoreLongest ||
			slices.ContainsFunc(r.Want, func(o Outcome) bool { return o.Read || o.Status == 413 || o.Status == 414 || o.Status == 431 })
	})
}

// keepsRow reports whether the server keeps a row, in one of the ways that are
// right.
func keepsRow(ctx context.Context, addr string, row Row) bool {
	for _, answers := range [][]Outcome{row.Want, row.Also} {
		if len(answers) == 0 {
			continue
		}
		err := readsRow(ctx, addr, row, answers)
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			err = readsRow(ctx, addr, row, answers)
		}
		if err == nil {
			return true
		}
	}
	return false
}

// readsRow sends a row and tells whether its answers are of these kinds.
func readsRow(ctx context.Context, addr string, row Row, answers []Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, scorePatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	bytes := row.Bytes
	if answers[len(answers)-1].Conn == Keep {
		bytes += next
		answers = append(answers[:len(answers):len(answers)], hit)
	}
	io.WriteString(conn, bytes) // fails where the server has refused: the answer tells
	r := bufio.NewReader(conn)
	for _, o := range answers {
		if err := readsAs(r, o); err != nil {
			return err
		}
	}
	if answers[len(answers)-1].Conn == Keep {
		return noMore(conn.(*net.TCPConn), r)
	}
	return checkClosed(r)
}

// readsAs reads one answer and tells whether it is of the kind of o.
func readsAs(r *bufio.Reader, o Outcome) error {
	method := "GET"
	if o.Head {
		method = "HEAD"
	}
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	for err == nil && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if served := resp.StatusCode < 300; served != (o.Status == 200) || !served && resp.StatusCode < 400 {
		return fmt.Errorf("status %d, want %d", resp.StatusCode, o.Status)
	}
	return nil
}

// noMore ends what a client sends and waits for an answer too many. The server
// need not close: some never look for a client's end.
func noMore(conn *net.TCPConn, r *bufio.Reader) error {
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(scoreQuiet))
	switch _, err := r.ReadByte(); {
	case err == nil:
		return errors.New("more after the last answer")
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	default:
		return err
	}
}

// alsoRight says where the RFCs allow a second reading of a row, which counterd
// refuses, and how a server that reads it so answers.
var alsoRight = []struct {
	why   string
	want  []Outcome
	names func(Row) bool
}{
	{"RFC 9112 5.2: a folded line is refused, or read with spaces in its place", want(hit), named(
		"obs-fold with space", "obs-fold with tab", "obs-fold before the end", "obs-fold of Host",
		"obs-fold of Transfer-Encoding", "obs-fold hides Content-Length", "trailer: obs-fold")},
	{"RFC 9112 5.2: the same, and the body is then none", want(hit, bad), named("attack: Transfer-Encoding in a folded line")},
	{"RFC 9112 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing, after which the connection closes", want(lastHit),
		named("Transfer-Encoding in HTTP/1.0", "Transfer-Encoding in HTTP/1.0 with keep-alive")},
	{"RFC 9112 6.3: Content-Length beside Transfer-Encoding is refused, or ignored and the connection then closed", want(lastHit),
		named("attack: CL.TE")},
	{"RFC 9110 5.5: a control in a value may be kept, but for CR, LF and NUL", want(hit), func(r Row) bool {
		return strings.HasPrefix(r.Name, "value with byte ") && r.Name != "value with byte 00" ||
			r.Name == "bad byte behind eight good ones" || r.Name == "DEL behind eight good ones" || r.Name == "trailer: DEL in value"
	}},
	{"RFC 9112 2.2: a recipient may take a bare LF for the end of a field line", want(hit), named("trailer: bare LF", "chunked: last line ended by LF")},
	{"RFC 9110 5.6.1: empty members of a list are ignored", want(hit), named(
		"attack: TE.TE with an empty first line", `Transfer-Encoding "chunked,"`, `Transfer-Encoding ",chunked"`,
		`Transfer-Encoding ", chunked"`, `Transfer-Encoding "chunked,,"`, `Transfer-Encoding "chunked\t,\t"`)},
	{"RFC 3986 3.2.2: a reg-name may have a comma", want(hit), named(`bad Host "a,b"`)},
	{"RFC 9110 2.2: an extension that means nothing may be read over, as long as its line ends where it ends", want(hit), func(r Row) bool {
		return (r.Section == "RFC 9112 7.1.1" || r.Name == "chunked: space behind size" || r.Name == "chunked: tab behind size" ||
			r.Name == "chunked: space behind last size") && len(r.Want) == 1 && r.Want[0] == bad && !strings.Contains(r.Name, "CR") && !strings.Contains(r.Name, "LF")
	}},
}

func named(names ...string) func(Row) bool {
	return func(r Row) bool { return slices.Contains(names, r.Name) }
}
