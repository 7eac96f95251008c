package httpparse_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strconv"
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

// BenchmarkRequest reads one request that is there as a whole: httpparse, and
// beside it what it could be measured by. wildcat alone checks nothing, index
// only finds the blank line, fasthttp and net/http copy what they read.
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

// BenchmarkFields is a browser's request of which every field is looked at.
func BenchmarkFields(b *testing.B) {
	p := httpparse.NewParser(httpparse.Limits{})
	var st httpparse.State
	buf := []byte(browserRequest)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ev, err := p.Next(&st, buf); ev != httpparse.Head || err != nil {
			b.Fatal(ev, err)
		}
		n := 0
		for name, value := range p.Request().Fields() {
			n += len(name) + len(value)
		}
		if n == 0 {
			b.Fatal("no fields")
		}
	}
}

// BenchmarkTrickle is a head that arrives octet by octet. ns/octet does not
// grow with its length.
func BenchmarkTrickle(b *testing.B) {
	for _, size := range []int{100, 1000, 10000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			buf := []byte("GET /" + strings.Repeat("x", size/2) + " HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", size/2) + "\r\n\r\n")
			p := httpparse.NewParser(httpparse.Limits{})
			var st httpparse.State
			b.ReportAllocs()
			for b.Loop() {
				for i := range buf {
					if _, _, err := p.Next(&st, buf[:i+1]); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(buf)), "ns/octet")
		})
	}
}

// BenchmarkBody streams a chunked body of 1 MiB, in chunks of 4 KiB and in
// reads of 64 KiB.
func BenchmarkBody(b *testing.B) {
	chunk := "1000;a=b\r\n" + strings.Repeat("x", 4096) + "\r\n"
	buf := []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk, 250) + "0\r\n\r\n")
	p := httpparse.NewParser(httpparse.Limits{MaxBodyBytes: 2 << 20})
	var st httpparse.State
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		for at := 0; at < len(buf); {
			end := min(at+64<<10, len(buf))
			n, _, err := p.Next(&st, buf[at:end])
			if err != nil {
				b.Fatal(err)
			}
			at += n
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
		if bytes.Index(buf, blank) != len(buf)-len(blank) {
			b.Fatal("no blank line")
		}
	}
}

func benchFasthttp(b *testing.B, buf []byte) {
	var req fasthttp.Request
	src := bytes.NewReader(buf)
	r := bufio.NewReaderSize(src, 16<<10)
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
