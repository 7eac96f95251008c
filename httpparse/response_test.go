package httpparse_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/httpparse"
	"pgregory.net/rapid"
)

var (
	plain   = httpparse.MustField("Content-Type", "text/plain; charset=utf-8")
	noStore = httpparse.MustField("Cache-Control", "no-store")
)

var someday = time.Date(2026, 11, 26, 19, 31, 8, 999999999, time.FixedZone("", 3600))

// TestResponseBytes: an answer is these bytes and no others.
func TestResponseBytes(t *testing.T) {
	const start, date = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n", "Date: Thu, 26 Nov 2026 18:31:08 GMT\r\n"
	type Reply = httpparse.Reply
	d := httpparse.NewDate(someday)
	for _, c := range []struct {
		status int
		reply  Reply
		body   string
		more   []httpparse.Field
		want   string
	}{
		{200, Reply{}, "42\n", nil, "200 OK\r\n" + start + date + "Content-Length: 3\r\n\r\n42\n"},
		{200, Reply{}, "", nil, "200 OK\r\n" + start + date + "Content-Length: 0\r\n\r\n"},
		{200, Reply{HEAD: true}, "42\n", nil, "200 OK\r\n" + start + date + "Content-Length: 3\r\n\r\n"},
		{200, Reply{Close: true}, "42\n", nil, "200 OK\r\n" + start + date + "Content-Length: 3\r\nConnection: close\r\n\r\n42\n"},
		{200, Reply{HTTP10: true}, "42\n", nil, "200 OK\r\n" + start + date + "Content-Length: 3\r\nConnection: keep-alive\r\n\r\n42\n"},
		{200, Reply{HTTP10: true, Close: true}, "42\n", nil, "200 OK\r\n" + start + date + "Content-Length: 3\r\nConnection: close\r\n\r\n42\n"},
		{503, Reply{}, "no\n", []httpparse.Field{httpparse.MustField("Retry-After", "1"), {}}, "503 Service Unavailable\r\n" + start + date + "Retry-After: 1\r\nContent-Length: 3\r\n\r\nno\n"},
		{400, Reply{HEAD: true, Close: true}, "no\n", nil, "400 Bad Request\r\n" + start + date + "Content-Length: 3\r\nConnection: close\r\n\r\n"},
		{299, Reply{}, "", nil, "299 \r\n" + start + date + "Content-Length: 0\r\n\r\n"},
		{204, Reply{}, "dropped", nil, "204 No Content\r\n" + start + date + "\r\n"},
		{304, Reply{Close: true}, "dropped", nil, "304 Not Modified\r\n" + start + date + "Connection: close\r\n\r\n"},
		{103, Reply{Close: true}, "dropped", nil, "103 Early Hints\r\n" + start + "\r\n"},
	} {
		r := httpparse.NewResponse(c.status, plain, noStore)
		if got := string(r.Append([]byte("before"), d, c.reply, []byte(c.body), c.more...)); got != "beforeHTTP/1.1 "+c.want {
			t.Errorf("%d %+v:\n%q, want\n%q", c.status, c.reply, got, c.want)
		}
	}
	if got := string(httpparse.NewResponse(100).AppendHead(nil, d, httpparse.Reply{}, 0)); got != httpparse.Continue {
		t.Errorf("100 is %q", got)
	}
}

// TestResponseIsReadAsMeant: whatever is put into an answer, net/http reads just
// that, and the next answer behind it.
func TestResponseIsReadAsMeant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		status := rapid.OneOf(rapid.SampledFrom([]int{200, 204, 304, 404, 503}), rapid.IntRange(200, 599)).Draw(rt, "status")
		reply := httpparse.Reply{
			HEAD:   rapid.Bool().Draw(rt, "HEAD"),
			HTTP10: rapid.Bool().Draw(rt, "HTTP/1.0"),
			Close:  rapid.Bool().Draw(rt, "close"),
		}
		var fields []httpparse.Field
		header := make(http.Header)
		for range rapid.IntRange(0, 4).Draw(rt, "fields") {
			name, value := "X-"+genToken.Draw(rt, "name"), genValue.Draw(rt, "value")
			fields = append(fields, httpparse.MustField(name, value))
			header.Add(name, value)
		}
		split := rapid.IntRange(0, len(fields)).Draw(rt, "split")
		r := httpparse.NewResponse(status, fields[:split]...)
		pieces := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 40)).Draw(rt, "pieces")
		body := slices.Concat(pieces...)
		d := httpparse.NewDate(someday)

		var out []byte
		closes := reply.Close
		if rapid.Bool().Draw(rt, "stream") {
			var w httpparse.Body
			out, w = r.AppendStream(nil, d, reply, fields[split:]...)
			for _, piece := range pieces {
				out = w.Append(out, piece)
			}
			out = w.AppendEnd(out)
			closes = w.Close
		} else {
			out = r.Append(nil, d, reply, body, fields[split:]...)
		}
		if reply.HEAD || status == 204 || status == 304 {
			body = nil
		}
		if !closes {
			out = httpparse.NewResponse(222).Append(out, nil, httpparse.Reply{}, nil)
		}

		method := "GET"
		if reply.HEAD {
			method = "HEAD"
		}
		br := bufio.NewReader(strings.NewReader(string(out)))
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			rt.Fatalf("%q: %v", out, err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != string(body) || resp.StatusCode != status || resp.Close != closes {
			rt.Fatalf("%q is read as %d %q, close %v: %v", out, resp.StatusCode, got, resp.Close, err)
		}
		if resp.Header.Get("Date") != "Thu, 26 Nov 2026 18:31:08 GMT" {
			rt.Fatalf("Date %q", resp.Header.Get("Date"))
		}
		for name, values := range header {
			if !slices.Equal(resp.Header[name], values) {
				rt.Fatalf("%q: %s is %q, want %q", out, name, resp.Header[name], values)
			}
		}
		next, err := http.ReadResponse(br, nil)
		if closes != (err != nil) || err == nil && next.StatusCode != 222 {
			rt.Fatalf("behind %q: %+v, %v", out, next, err)
		}
	})
}

// TestNewFieldRefusesWhatFrames: no octet that could end a line, or a name, gets into a field, and
// none that frames the answer does.
func TestNewFieldRefusesWhatFrames(t *testing.T) {
	for c := range 256 {
		_, err := httpparse.NewField("X", "a"+string([]byte{byte(c)})+"b")
		if ok := c >= 0x20 && c != 0x7f || c == '\t'; ok != (err == nil) {
			t.Errorf("value with octet %02X: %v", c, err)
		}
		_, err = httpparse.NewField("X"+string([]byte{byte(c)}), "")
		if ok := c > 0x20 && c < 0x7f && !strings.ContainsRune("\"(),/:;<=>?@[\\]{}", rune(c)); ok != (err == nil) {
			t.Errorf("name with octet %02X: %v", c, err)
		}
	}
	for _, name := range []string{"", "Date", "content-length", "Transfer-ENCODING", "connection"} {
		if _, err := httpparse.NewField(name, "1"); err == nil {
			t.Errorf("a field named %q", name)
		}
	}
}

// TestResponsePanicsOnMisuse: what only a program that is wrong can ask for.
func TestResponsePanicsOnMisuse(t *testing.T) {
	for name, f := range map[string]func(){
		"field":           func() { httpparse.MustField("X", "a\r\nY: b") },
		"status 99":       func() { httpparse.NewResponse(99) },
		"status 101":      func() { httpparse.NewResponse(101) },
		"status 600":      func() { httpparse.NewResponse(600) },
		"negative length": func() { httpparse.NewResponse(200).AppendHead(nil, nil, httpparse.Reply{}, -1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestDateIsTheTimeLastSet: it is what http.TimeFormat makes of the time last set, and may be read
// while it is set.
func TestDateIsTheTimeLastSet(t *testing.T) {
	r := httpparse.NewResponse(200)
	in := func(d *httpparse.Date) string {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(r.Append(nil, d, httpparse.Reply{}, nil)))), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Get("Date")
	}
	if got := in(nil) + in(new(httpparse.Date)); got != "" {
		t.Errorf("without a clock: %q", got)
	}
	d := new(httpparse.Date)
	for _, step := range []time.Duration{0, time.Millisecond, time.Second, 400 * 24 * time.Hour, -time.Hour} {
		now := someday.Add(step)
		d.Set(now)
		if got, want := in(d), now.UTC().Format(http.TimeFormat); got != want {
			t.Errorf("Date %q, want %q", got, want)
		}
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 100 {
				d.Set(someday.Add(time.Duration(i+j) * time.Second))
				if _, err := http.ParseTime(in(d)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestAnswersAllocateNothing: not where dst has room.
func TestAnswersAllocateNothing(t *testing.T) {
	r, d := httpparse.NewResponse(200, plain, noStore), httpparse.NewDate(someday)
	retry := httpparse.MustField("Retry-After", "1")
	dst, data := make([]byte, 0, 1024), []byte("some data")
	n := testing.AllocsPerRun(100, func() {
		d.Set(someday)
		out := r.Append(dst, d, httpparse.Reply{}, data, retry)
		out, body := r.AppendStream(out, d, httpparse.Reply{})
		out = body.AppendEnd(body.Append(out, data))
		if len(out) > cap(dst) {
			panic(fmt.Sprint(len(out), " bytes"))
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAnswer renders counterd's 200 with a number of seven digits: by
// Response, and beside it by appends that have all but the length in one piece.
func BenchmarkAnswer(b *testing.B) {
	ok := httpparse.NewResponse(200, plain, noStore)
	d := httpparse.NewDate(time.Now())
	dst := make([]byte, 0, 512)
	b.Run("Response", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var buf [21]byte
			body := append(strconv.AppendInt(buf[:0], 1234567, 10), '\n')
			dst = ok.Append(dst[:0], d, httpparse.Reply{}, body)
		}
	})
	head := ok.AppendHead(nil, d, httpparse.Reply{}, 0)
	head = head[:len(head)-len("0\r\n\r\n")]
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var buf [21]byte
			body := append(strconv.AppendInt(buf[:0], 1234567, 10), '\n')
			dst = append(dst[:0], head...)
			dst = strconv.AppendInt(dst, int64(len(body)), 10)
			dst = append(dst, "\r\n\r\n"...)
			dst = append(dst, body...)
		}
	})
	b.Run("close and field", func(b *testing.B) {
		retry := httpparse.MustField("Retry-After", "1")
		reason := []byte("store is unavailable\n")
		busy := httpparse.NewResponse(503, plain, noStore)
		b.ReportAllocs()
		for b.Loop() {
			dst = busy.Append(dst[:0], d, httpparse.Reply{Close: true}, reason, retry)
		}
	})
	b.Run("chunk", func(b *testing.B) {
		_, body := ok.AppendStream(dst[:0], d, httpparse.Reply{})
		data := []byte("some data")
		b.ReportAllocs()
		for b.Loop() {
			dst = body.Append(dst[:0], data)
		}
	})
}
