package httpparse_test

import (
	"slices"
	"testing"

	"github.com/counterd/counterd/httpparse"
	"github.com/counterd/counterd/internal/conformance"
)

// outcomes feeds input in pieces that end at cuts, and returns what a server
// with counterd's policy would answer. open: the input ends within a request.
func outcomes(t testing.TB, p *httpparse.Parser, input string, cuts ...int) (out []conformance.Outcome, open bool) {
	t.Helper()
	var (
		st      httpparse.State
		pending conformance.Outcome // of the request whose body is under way
		pos     int
	)
	data := []byte(input)
	for _, cut := range append(slices.Clip(cuts), len(input)) {
		buf := data[pos:cut:cut]
		for {
			n, ev, err := p.Next(&st, buf)
			if n < 0 || n > len(buf) {
				t.Fatalf("consumed %d of %d bytes", n, len(buf))
			}
			buf = buf[n:]
			pos += n
			if err != nil {
				return append(out, conformance.Outcome{Status: err.(*httpparse.Error).Status, Head: st.Reply().HEAD, Conn: conformance.Close}), false
			}
			if ev == httpparse.NeedMore {
				break
			}
			if ev == httpparse.Head {
				pending = policy(p.Request())
				if p.Request().HasBody && pending.Status != 501 && pending.Status != 417 {
					if p.Request().Expect == httpparse.ExpectContinue && len(buf) == 0 && cut == len(input) {
						out = append(out, conformance.Outcome{Status: 100})
					}
					continue
				}
			}
			if ev == httpparse.Data {
				continue
			}
			out = append(out, pending)
			if pending.Conn != conformance.Keep {
				return out, false
			}
		}
	}
	return out, st.InMessage()
}

// policy is what counterd's engines answer to a well-formed request.
func policy(r *httpparse.Request) conformance.Outcome {
	o := conformance.Outcome{Status: 200, Head: string(r.Method) == "HEAD"}
	if r.Close {
		o.Conn = conformance.Close
	}
	switch {
	case string(r.Method) == "CONNECT" || string(r.Method) == "TRACE":
		return conformance.Outcome{Status: 501, Conn: conformance.Either}
	case r.Expect == httpparse.ExpectUnknown:
		return conformance.Outcome{Status: 417, Conn: conformance.Either}
	case string(r.Path) != "/count":
	case string(r.Method) == "GET" || o.Head:
		o.Read = true
	default:
		o.Status = 405
	}
	return o
}

func TestTableOfRequests(t *testing.T) {
	p := httpparse.NewParser(httpparse.Limits{})
	for _, row := range conformance.Rows {
		got, open := outcomes(t, p, row.Bytes)
		if !slices.Equal(got, row.Want) || open != row.Open {
			t.Errorf("%s %s: %s:\n%.300q\ngot  %+v open %v\nwant %+v open %v", row.Section, row.Level, row.Name, row.Bytes, got, open, row.Want, row.Open)
		}
	}
}
