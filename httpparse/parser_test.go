package httpparse

import (
	"testing"
	"unsafe"
)

func TestStateIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(State{}); n > 64 {
		t.Fatalf("State is %d bytes, want at most 64", n)
	}
}

// message is what one request of a stream came to.
type message struct {
	Method, Target, Path, Host string
	Body                       string
	Length                     int64
	Minor, Form, Expect        uint8
	Close, Ended               bool
	Err                        *Error
}

// readAll feeds input in pieces that end at the given offsets and returns what
// it came to, the last message perhaps not Ended.
func readAll(t testing.TB, p *Parser, input []byte, cuts ...int) []message {
	t.Helper()
	var (
		st  State
		out []message
		pos int
	)
	cuts = append(cuts[:len(cuts):len(cuts)], len(input))
	for _, cut := range cuts {
		for {
			buf := append([]byte(nil), input[pos:cut]...) // its own: nobody may look beyond
			n, ev, err := p.Next(&st, buf)
			if n < 0 || n > len(buf) {
				t.Fatalf("consumed %d of %d bytes", n, len(buf))
			}
			pos += n
			if err != nil {
				if len(out) == 0 || out[len(out)-1].Ended {
					out = append(out, message{})
				}
				out[len(out)-1].Err = err.(*Error)
				return out
			}
			switch ev {
			case Head:
				r := p.Request()
				out = append(out, message{
					Method: string(r.Method), Target: string(r.Target), Path: string(r.Path), Host: string(r.Host),
					Length: r.ContentLength, Minor: r.Minor, Form: r.TargetForm, Expect: r.Expect,
					Close: r.Close, Ended: !r.HasBody,
				})
			case Data:
				out[len(out)-1].Body += string(p.Data())
			case End:
				out[len(out)-1].Ended = true
			}
			if ev == NeedMore {
				break
			}
		}
	}
	return out
}

func TestSmoke(t *testing.T) {
	p := NewParser(Limits{})
	in := "\r\nGET /a?b HTTP/1.1\r\nHost: x:80\r\nConnection: foo, Close\r\n\r\n" +
		"POST http://[::1]:8/ HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc" +
		"\r\nPOST /c HTTP/1.9\r\nhost:\ty \r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n" +
		"3;a=\"b\"\r\nxyz\r\n1\r\n!\r\n0\r\nA: b\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: q\r\n\r\n"
	whole := readAll(t, p, []byte(in))
	t.Logf("%+v", whole)
	for cut := range in {
		got := readAll(t, p, []byte(in), cut)
		if len(got) != len(whole) {
			t.Fatalf("cut at %d: %+v", cut, got)
		}
		for i := range got {
			if got[i] != whole[i] {
				t.Fatalf("cut at %d: %+v, want %+v", cut, got[i], whole[i])
			}
		}
	}
}
