package httpparse_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/counterd/counterd/httpparse"
	"github.com/evanphx/wildcat"
	"github.com/valyala/fasthttp"
)

const wrkRequest = "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"

const browserRequest = "GET /some/page?from=here HTTP/1.1\r\n" +
	"Host: localhost:8080\r\n" +
	"Connection: keep-alive\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"DNT: 1\r\n" +
	"\r\n"

var manyFields = func() string {
	var b strings.Builder
	b.WriteString("GET / HTTP/1.1\r\nHost: localhost:8080\r\n")
	for i := 1; i < 100; i++ {
		fmt.Fprintf(&b, "X-Field-%d: the value of field number %d\r\n", i, i)
	}
	b.WriteString("\r\n")
	return b.String()
}()

var benchRequests = []struct{ name, bytes string }{
	{"wrk", wrkRequest},
	{"browser", browserRequest},
	{"100fields", manyFields},
}

func BenchmarkRequest(b *testing.B) {
	for _, r := range benchRequests {
		buf := []byte(r.bytes)
		b.Run(r.name+"/httpparse", func(b *testing.B) { benchHttpparse(b, buf) })
		b.Run(r.name+"/wildcat", func(b *testing.B) { benchWildcat(b, buf) })
		b.Run(r.name+"/index", func(b *testing.B) { benchIndex(b, buf) })
		b.Run(r.name+"/fasthttp", func(b *testing.B) { benchFasthttp(b, buf) })
		b.Run(r.name+"/nethttp", func(b *testing.B) { benchNethttp(b, buf) })
	}
}

func benchHttpparse(b *testing.B, buf []byte) {
	p := httpparse.NewParser(httpparse.Limits{})
	var st httpparse.State
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ev, err := p.Next(&st, buf); ev != httpparse.Head || err != nil {
			b.Fatal(ev, err)
		}
	}
}

func benchWildcat(b *testing.B, buf []byte) {
	p := wildcat.NewSizedHTTPParser(128)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func benchIndex(b *testing.B, buf []byte) {
	blank := []byte("\r\n\r\n")
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if bytes.Index(buf, blank) < 0 {
			b.Fatal("no blank line")
		}
	}
}

func benchFasthttp(b *testing.B, buf []byte) {
	var req fasthttp.Request
	src := bytes.NewReader(buf)
	r := bufio.NewReader(src)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(buf)
		r.Reset(src)
		if err := req.Read(r); err != nil {
			b.Fatal(err)
		}
	}
}

func benchNethttp(b *testing.B, buf []byte) {
	src := bytes.NewReader(buf)
	r := bufio.NewReader(src)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(buf)
		r.Reset(src)
		if _, err := http.ReadRequest(r); err != nil {
			b.Fatal(err)
		}
	}
}
