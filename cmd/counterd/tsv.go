package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/counterd/counterd/counter"
)

// The form of store list and store load: a line for each counter, its count in
// decimal, a tab, its name as it is, a line feed.

func writeCounter(w *bufio.Writer, n counter.Named) error {
	w.Write(strconv.AppendInt(w.AvailableBuffer(), n.Count, 10))
	w.WriteByte('\t')
	w.WriteString(n.Name)
	return w.WriteByte('\n') // a Writer's first error stays
}

// readCounters reads all lines of r. Each name stands once. The last line feed may
// be missing. A line of 64 KiB, far beyond the longest name, is an error.
func readCounters(r io.Reader) ([]counter.Named, error) {
	lines := bufio.NewScanner(r)
	lines.Split(scanLines)
	var all []counter.Named
	where := map[string]int{}
	number := 1
	for ; lines.Scan(); number++ {
		n, err := parseCounter(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if first, twice := where[n.Name]; twice {
			return nil, fmt.Errorf("line %d: %q stands in line %d already", number, n.Name, first)
		}
		where[n.Name] = number
		all = append(all, n)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d is too long", number)
	}
	return all, lines.Err()
}

// scanLines is bufio.ScanLines, which would take a carriage return off a name.
func scanLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func parseCounter(line []byte) (n counter.Named, err error) {
	value, name, ok := bytes.Cut(line, []byte("\t"))
	if !ok {
		return n, errors.New("want a count, a tab and a name")
	}
	if n.Count, err = parseCount(string(value)); err != nil {
		return n, err
	}
	n.Name = string(name)
	return n, checkName(n.Name)
}

// parseCount takes decimal digits alone: no sign, no spaces.
func parseCount(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is no number from 0 to %d", clipped(text), int64(math.MaxInt64))
	}
	return int64(n), nil
}

// checkName holds a name to what a hit can count on: a path of a request's target,
// up to "?". What lies below /count is read there and can't be hit.
func checkName(name string) error {
	switch {
	case len(name) > counter.MaxName:
		return fmt.Errorf("the name %q has %d bytes, more than %d", clipped(name), len(name), counter.MaxName)
	case name == "" || name[0] != '/':
		return fmt.Errorf("the name %q doesn't begin with /", clipped(name))
	case name == "/count" || strings.HasPrefix(name, "/count/"):
		return fmt.Errorf("the name %q can't be counted on: reads are made there", clipped(name))
	}
	for i := range len(name) {
		if b := name[i]; b <= ' ' || b == 0x7f || b == '#' || b == '?' {
			return fmt.Errorf("the name %q has %q in it, which no path can have", clipped(name), b)
		}
	}
	return nil
}

// clipped is the beginning of a text that may be of any length.
func clipped(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
