package conformance

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/httpparse"
	"github.com/valyala/fasthttp"
)

// serveConns serves each connection by serve until the test ends.
func serveConns(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
				conn.(*net.TCPConn).CloseWrite()
				conn.SetDeadline(time.Now().Add(time.Second))
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// byParser answers by httpparse, as short as it can be done.
func byParser(conn net.Conn) {
	p, buf, piece := httpparse.NewParser(httpparse.Limits{}), []byte(nil), make([]byte, 4096)
	okay, refused := httpparse.NewResponse(200), httpparse.NewResponse(400)
	var st httpparse.State
	for {
		n, ev, err := p.Next(&st, buf)
		if err != nil {
			conn.Write(refused.Append(nil, nil, st.Reply(), []byte("no\n")))
			return
		}
		buf = buf[n:]
		switch ev {
		case httpparse.NeedMore:
			n, err := conn.Read(piece)
			if err != nil {
				return
			}
			buf = append(buf, piece[:n]...)
			continue
		case httpparse.Head:
			if p.Request().HasBody {
				continue
			}
		case httpparse.Data:
			continue
		}
		conn.Write(okay.Append(nil, nil, st.Reply(), []byte("ok\n")))
		if st.Reply().Close {
			return
		}
	}
}

// byBlankLine answers each blank line, and knows nothing else.
func byBlankLine(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
		}
	}
}

// TestScoreGrowsWithWhatIsKept: the better a server reads, the more it keeps, and the best keeps all.
func TestScoreGrowsWithWhatIsKept(t *testing.T) {
	std := &http.Server{Handler: &stdCounter{}, DisableGeneralOptionsHandler: true}
	fast := &fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) { c.WriteString("ok\n") }, Logger: log.New(io.Discard, "", 0)}
	listen := func(serve func(net.Listener) error) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go serve(ln)
		return ln.Addr().String()
	}
	t.Cleanup(func() { std.Close(); fast.Shutdown() })
	for _, s := range []struct {
		name, addr  string
		least, most float64
	}{
		{"httpparse", serveConns(t, byParser), 1, 1},
		{"net/http", listen(std.Serve), 0.8, 0.97},
		{"fasthttp", listen(fast.Serve), 0.8, 0.97},
		{"blank line", serveConns(t, byBlankLine), 0.1, 0.3},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			kept, all, failed, err := Score(t.Context(), s.addr)
			if err != nil || kept+len(failed) != all {
				t.Fatalf("%d of %d, %d failed, %v", kept, all, len(failed), err)
			}
			if share := float64(kept) / float64(all); share < s.least || share > s.most {
				t.Errorf("keeps %d of %d, want %v to %v; it fails %.2000q", kept, all, s.least, s.most, failed)
			}
			t.Logf("keeps %d of %d, in %v", kept, all, time.Since(began))
		})
	}
}

// TestServerThatDiesIsScored: a server that hangs, or dies of a row, is told, in time.
func TestServerThatDiesIsScored(t *testing.T) {
	hangs := serveConns(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	if _, _, _, err := Score(t.Context(), hangs); err == nil {
		t.Error("a server that answers nothing has a score")
	}

	var rows atomic.Int32
	dies := serveConns(t, func(conn net.Conn) {
		if rows.Add(1) < 100 {
			byParser(conn)
		}
	})
	began := time.Now()
	if _, _, _, err := Score(t.Context(), dies); err == nil {
		t.Error("a server that died has a score")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to notice", took)
	}

	ctx, cancel := context.WithCancel(t.Context())
	stops := serveConns(t, func(conn net.Conn) {
		if rows.Add(1) > 200 {
			cancel()
		}
		byParser(conn)
	})
	if _, _, _, err := Score(ctx, stops); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// TestScoredRows: what is scored is what a server that knows nothing of counterd
// can keep, and each second reading belongs to rows that are there.
func TestScoredRows(t *testing.T) {
	rows := scoredRows()
	if len(rows) < 400 {
		t.Errorf("%d rows are scored", len(rows))
	}
	for _, row := range rows {
		if row.Section == "counterd contract" || row.Level == Choice {
			t.Errorf("%s is scored", row.Name)
		}
	}
	for _, also := range alsoRight {
		if !slices.ContainsFunc(rows, also.names) {
			t.Errorf("no row for: %s", also.why)
		}
	}
}
