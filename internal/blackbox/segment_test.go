package blackbox

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/counterd/counterd/internal/conformance"
	"github.com/counterd/counterd/internal/race"
)

// cuts are ways to cut what a client sends into segments. Package httpparse
// tries all of them; here a choice shows that the engines keep the rest.
var cuts = []struct {
	name string
	cut  func(row conformance.Row) []int // where, ascending
}{
	{"whole", func(conformance.Row) []int { return nil }},
	{"bytes", func(row conformance.Row) []int {
		step := 1
		if len(row.Bytes) > 4096 {
			step = 1021
		}
		var at []int
		for i := step; i < len(row.Bytes); i += step {
			at = append(at, i)
		}
		return at
	}},
	{"lines", func(row conformance.Row) []int {
		var at []int
		for i := range row.Bytes {
			if i > 0 && row.Bytes[i-1] == '\n' && len(at) < 64 {
				at = append(at, i)
			}
		}
		return at
	}},
	{"within CRLF", func(row conformance.Row) []int {
		var at []int
		for i := range row.Bytes {
			if i > 0 && row.Bytes[i-1] == '\r' && len(at) < 64 {
				at = append(at, i)
			}
		}
		return at
	}},
	{"at random", func(row conformance.Row) []int {
		h := fnv.New64()
		io.WriteString(h, row.Name)
		r := rand.New(rand.NewPCG(h.Sum64(), 1))
		if len(row.Bytes) < 3 {
			return nil
		}
		at := 1 + r.IntN(len(row.Bytes)-2)
		return []int{at, at + 1 + r.IntN(len(row.Bytes)-at-1)}
	}},
}

// TestEnginesAreAlike sends the whole table, cut in every way, to both engines
// that have our HTTP. The answers must be the same to the byte but for the date;
// the interim 100 aside, which need not come when the body is there already.
func TestEnginesAreAlike(t *testing.T) {
	race.Spare(t) // TestConformance isn't
	t.Parallel()
	for _, kind := range []storeKind{stores[0], pathStores[0]} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			alike(t, kind)
		})
	}
}

func alike(t *testing.T, kind storeKind) {
	transcripts := make(chan []string)
	var names []string
	for _, name := range own {
		for _, cut := range cuts {
			names = append(names, name+", "+cut.name)
			go func() { transcripts <- record(t, kind, name, cut.name, cut.cut) }()
		}
	}
	var first []string
	for range names {
		got := <-transcripts
		if first == nil {
			first = got
		}
		if len(got) != len(first) {
			t.Fatalf("%s: %d rows answered, %s: %d", got[0], len(got), first[0], len(first))
		}
		for i, row := range conformance.Rows {
			if got[i+1] != first[i+1] {
				t.Errorf("%s: %q\n%s: %q\n%s: %q", row.Name, row.Bytes, got[0], got[i+1], first[0], first[i+1])
			}
		}
	}
}

var (
	dateField = regexp.MustCompile(`\r\nDate: [^\r]+ GMT\r\n`)
	interim   = "HTTP/1.1 100 Continue\r\n\r\n"
)

// record sends the table to a server of its own, and returns who answered, and
// what.
func record(t *testing.T, kind storeKind, name, how string, cut func(conformance.Row) []int) []string {
	s := kind.start(t, name, 0, nil)
	transcript := []string{name + ", " + how}
	for _, row := range conformance.Rows {
		text, err := talk(s.addr, row, cut(row))
		if err != nil {
			t.Errorf("%s: %s: %v", transcript[0], row.Name, err)
		}
		if text == "" && len(row.Want) > 0 {
			t.Errorf("%s: %s: no answer", transcript[0], row.Name)
		}
		text = dateField.ReplaceAllString(text, "\r\nDate: now\r\n")
		transcript = append(transcript, strings.ReplaceAll(text, interim, ""))
	}
	return transcript
}

// talk sends a row's bytes, cut at the given places, and returns all that comes
// back.
func talk(addr string, row conformance.Row, at []int) (string, error) {
	c, err := connect(addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		from := 0
		for _, to := range append(at, len(row.Bytes)) {
			if _, err := io.WriteString(c, row.Bytes[from:to]); err != nil {
				return // refused already
			}
			from = to
		}
		if !row.Open {
			io.WriteString(c, final)
		}
	}()
	defer func() { c.Close(); <-sent }()
	if !row.Open {
		all, err := io.ReadAll(c.r)
		return string(all), err
	}
	var b strings.Builder
	for _, want := range row.Want {
		for {
			a, err := c.read("GET")
			if err != nil {
				return "", err
			}
			fmt.Fprintln(&b, a.status, a.body)
			if a.status != 100 || want.Status == 100 {
				break
			}
		}
	}
	return b.String(), nil
}
