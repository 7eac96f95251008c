package httpparse_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/counterd/counterd/httpparse"
	"github.com/counterd/counterd/internal/conformance"
	"github.com/counterd/counterd/internal/race"
)

// splitPoints are the places to cut a row at: all, or for a long one those near
// its ends and its first CRLFs, and some between.
func splitPoints(input string) []int {
	near, between := 100, 20
	switch {
	case len(input) < 2000:
		near = len(input)
	case len(input) > 100_000: // the largest bodies, whose octets are all alike
		near, between = 3, 3
	}
	var points []int
	crlfs := 0
	for i := 1; i < len(input); i++ {
		if input[i] == '\n' {
			crlfs++
		}
		if i < near || i >= len(input)-near || i*between%len(input) < between || input[i] == '\n' && crlfs < between {
			points = append(points, i)
		}
	}
	return points
}

func everyByte(input string) []int {
	cuts := make([]int, len(input))
	for i := range cuts {
		cuts[i] = i
	}
	return cuts
}

// TestFramingIsTheSameHoweverCut: however a row arrives, it comes to the same.
func TestFramingIsTheSameHoweverCut(t *testing.T) {
	race.Spare(t)
	p := httpparse.NewParser(httpparse.Limits{})
	same := func(row conformance.Row, how string, cuts ...int) {
		got, open := outcomes(t, p, row.Bytes, cuts...)
		if !slices.Equal(got, row.Want) || open != row.Open {
			t.Fatalf("%s, %s:\n%.300q\ngot  %+v open %v\nwant %+v open %v", row.Name, how, row.Bytes, got, open, row.Want, row.Open)
		}
	}
	for _, row := range conformance.Rows {
		for _, cut := range splitPoints(row.Bytes) {
			same(row, "cut in two", cut)
		}
		if len(row.Bytes) > 100_000 {
			continue
		}
		same(row, "byte by byte", everyByte(row.Bytes)...)
		var threes []int
		for i := 3; i < len(row.Bytes); i += 3 {
			threes = append(threes, i)
		}
		same(row, "in threes", threes...)
	}
}

// TestManyInOneSegment: rows that keep the connection, one behind another, come
// to what they come to alone.
func TestManyInOneSegment(t *testing.T) {
	var all []conformance.Row
	for _, row := range conformance.Rows {
		closes := slices.ContainsFunc(row.Want, func(o conformance.Outcome) bool { return o.Conn != conformance.Keep })
		if !row.Open && !closes && len(row.Bytes) < 20000 {
			all = append(all, row)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	p := httpparse.NewParser(httpparse.Limits{})
	for range 20 {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var input strings.Builder
		var want []conformance.Outcome
		for _, row := range all {
			input.WriteString(row.Bytes)
			want = append(want, row.Want...)
		}
		var cuts []int
		for i := 1 + rng.IntN(3000); i < input.Len(); i += 1 + rng.IntN(3000) {
			cuts = append(cuts, i)
		}
		for _, cuts := range [][]int{nil, cuts} {
			got, open := outcomes(t, p, input.String(), cuts...)
			if !slices.Equal(got, want) || open {
				t.Fatalf("%d rows in one stream: %d outcomes, want %d", len(all), len(got), len(want))
			}
		}
	}
}
