package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds one row. It is long: only a failing row waits for it.
const patience = 10 * time.Second

// last follows a row whose connection must still serve: it shows where the
// last boundary is, and ends the connection.
const last = "GET /last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n"

// Expected returns the answers a row must get from the std engine or from the
// others, and whether the bytes then end within a request.
func (r Row) Expected(std bool) (answers []Outcome, open bool) {
	if std && r.StdNote != "" {
		return r.Std, r.StdOpen
	}
	return r.Want, r.Open
}

// Server is what is checked.
type Server struct {
	Std     bool // the std engine
	PerPath bool // each path has a counter, so a hit's number isn't known
}

// Check sends a row to the server at addr and reads its answers. count is the
// server's count before, and is moved on by every hit, so that it shows that
// nothing else counted. Nobody else may use the server meanwhile.
func Check(addr string, row Row, server Server, count *int64) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	answers, open := row.Expected(server.Std)
	bytes := row.Bytes
	if !open && answers[len(answers)-1].Conn == Keep {
		bytes += last
		answers = append(answers[:len(answers):len(answers)], lastHit)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		io.WriteString(conn, bytes) // fails where the server has refused: the answer tells
	}()
	defer func() { conn.Close(); <-written }()

	r := bufio.NewReader(conn)
	for i, want := range answers {
		if err := checkAnswer(r, want, server, count); err != nil {
			return fmt.Errorf("answer %d of %d: %w", i+1, len(answers), err)
		}
		if want.Conn == Close {
			return checkClosed(r)
		}
	}
	return nil
}

func checkAnswer(r *bufio.Reader, want Outcome, server Server, count *int64) error {
	method := "GET"
	if want.Head {
		method = "HEAD"
	}
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	for err == nil && resp.StatusCode == 100 && want.Status != 100 {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if server.Std && want.Conn == Close && errors.Is(err, syscall.ECONNRESET) {
		return nil // net/http may close with bytes unread, which takes its answer back
	}
	if err != nil {
		return fmt.Errorf("read answer, want %d: %w", want.Status, err)
	}
	body, err := io.ReadAll(resp.Body)
	if server.Std && want.Conn == Close && errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read body of %d: %w", resp.StatusCode, err)
	}
	if resp.StatusCode != want.Status {
		return fmt.Errorf("status %d %q, want %d", resp.StatusCode, body, want.Status)
	}
	if want.Status == 100 {
		return nil
	}
	if want.Conn != Either && resp.Close != (want.Conn == Close) {
		return fmt.Errorf("%d says close: %v", resp.StatusCode, resp.Close)
	}
	if want.Status == 200 {
		return checkCount(string(body), want, server, count)
	}
	if server.Std {
		return nil // net/http's own errors have less
	}
	return checkFields(resp, want, string(body))
}

func checkCount(body string, want Outcome, server Server, count *int64) error {
	if !want.Read {
		*count++
	}
	if want.Head {
		return nil
	}
	if server.PerPath && !want.Read {
		n, err := strconv.ParseInt(strings.TrimSuffix(body, "\n"), 10, 64)
		if err != nil || n < 1 || n > *count {
			return fmt.Errorf("body %q, want a number up to %d", body, *count)
		}
		return nil
	}
	if n := strconv.FormatInt(*count, 10) + "\n"; body != n {
		return fmt.Errorf("body %q, want %q", body, n)
	}
	return nil
}

// checkFields checks what the contract says of every error.
func checkFields(resp *http.Response, want Outcome, body string) error {
	if got := resp.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		return fmt.Errorf("%d has Content-Type %q", want.Status, got)
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		return fmt.Errorf("%d has Cache-Control %q", want.Status, got)
	}
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
		return fmt.Errorf("%d has no good Date: %w", want.Status, err)
	}
	if resp.Header.Get("Content-Length") == "" {
		return fmt.Errorf("%d has no Content-Length", want.Status)
	}
	if want.Status == 405 && resp.Header.Get("Allow") == "" {
		return errors.New("405 has no Allow")
	}
	if want.Head {
		return nil
	}
	if len(body) < 2 || strings.IndexByte(body, '\n') != len(body)-1 || body[0] >= '0' && body[0] <= '9' {
		return fmt.Errorf("%d has body %q, want one line of reason", want.Status, body)
	}
	return nil
}

func checkClosed(r *bufio.Reader) error {
	rest, err := io.ReadAll(io.LimitReader(r, 200))
	if len(rest) > 0 {
		return fmt.Errorf("more after the last answer: %q", rest)
	}
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("not closed: %w", err)
	}
	return nil
}
