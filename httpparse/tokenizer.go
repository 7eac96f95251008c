package httpparse

import "github.com/evanphx/wildcat"

// What a tokenizer keeps between calls is bounded, however large the heads were.
const (
	fewFields  = 16   // room when it is new
	mostFields = 512  // with more, wildcat is not kept
	mostKept   = 2048 // bytes of lines
)

// tokenizer takes a head apart that has passed the gate. It is wildcat, which is
// fast and gullible: it must not see other heads, keeps what it found until it is
// cleared, and knows how many fields there were only by the first empty one.
type tokenizer struct {
	wildcat *wildcat.HTTPParser
	seen    int    // fields that wildcat holds
	lines   []byte // room for kept
}

func newTokenizer() tokenizer {
	return tokenizer{wildcat: wildcat.NewSizedHTTPParser(fewFields)}
}

// parse takes a head of so many fields apart. It reports whether wildcat sees as
// many and ends where the head ends.
func (t *tokenizer) parse(head []byte, fields int) bool {
	t.seen = fields
	w := t.wildcat
	if w.TotalHeaders <= fields {
		w = wildcat.NewSizedHTTPParser(2 * fields) // wildcat grows when it is full, by ten
		t.wildcat = w
	}
	n, err := w.Parse(head)
	return err == nil && n == len(head) && len(w.Version) == len("HTTP/1.1") &&
		(fields == 0 || w.Headers[fields-1].Name != nil) && w.Headers[fields].Name == nil
}

// parseKept takes a head of so many fields apart, but only the lines of it that
// matter, if k has them. If host isn't nil it is the only line that matters, and
// wildcat has not seen it: the gate has found its name and value, and to look
// again would take longer than all the rest.
func (t *tokenizer) parseKept(head []byte, fields int, k *kept) (host []byte, ok bool) {
	if k.hostAlone() {
		host = head[k.start:k.end]
		head, fields = k.requestLine(head), 0
	} else if lines := k.head(head); lines != nil {
		head, fields = lines, k.fields
	}
	t.lines = k.lines
	return host, t.parse(head, fields)
}

func (t *tokenizer) method() []byte { return t.wildcat.Method }
func (t *tokenizer) target() []byte { return t.wildcat.Path }
func (t *tokenizer) minor() byte    { return t.wildcat.Version[len("HTTP/1.")] - '0' }

// field returns the name and value of a field that parse has seen. wildcat keeps
// whitespace at the end of a value, and the CR of an empty one.
func (t *tokenizer) field(i int) (name, value []byte) {
	h := &t.wildcat.Headers[i]
	if len(h.Value) == 1 && h.Value[0] == '\r' {
		return h.Name, h.Value[:0]
	}
	return h.Name, trimSpace(h.Value)
}

// clear drops what parse found, so that nothing is carried over into the next
// head and no caller's buffer is kept from the garbage collector.
func (t *tokenizer) clear() {
	w := t.wildcat
	if w.TotalHeaders > mostFields {
		*t = tokenizer{wildcat: wildcat.NewSizedHTTPParser(fewFields), lines: t.lines}
		return
	}
	w.Method, w.Path, w.Version = nil, nil, nil
	for i := range t.seen { // there are few: a loop is faster than clear
		h := &w.Headers[i]
		h.Name, h.Value = nil, nil
	}
	t.seen = 0
}

// kept gathers the lines of a head that the parser reads: the request line and
// few fields. The others have passed the gate and concern nobody here, so
// wildcat needs not see them.
type kept struct {
	lines  []byte // those copied so far
	full   bool   // some were more than there is room for
	fields int    // field lines that matter
	run    int    // start of the lines not copied yet, or -1 where the last line didn't matter

	first             int // start of the first field line
	start, colon, end int // of the last line that matters, without its CRLF
}

// line adds the field line b[start:end] with its colon at colon.
func (k *kept) line(b []byte, start, colon, end int) {
	if k.first == 0 {
		k.first = start
	}
	if matters(b[start], colon-start) {
		k.fields++
		k.start, k.colon, k.end = start, colon, end
		if k.run < 0 {
			k.run = start
		}
		return
	}
	if k.run >= 0 {
		k.add(b[k.run:start])
		k.run = -1
	}
}

// add copies lines where there is room: a larger copy would be dropped and
// allocated again for every request.
func (k *kept) add(lines []byte) {
	if len(k.lines)+len(lines) > mostKept {
		k.full = true
		return
	}
	k.lines = append(k.lines, lines...)
}

// head returns the head that was kept of b, or nil if that is too much to keep.
// All of it needs no copy.
func (k *kept) head(b []byte) []byte {
	if k.run == 0 {
		return b
	}
	if k.run < 0 {
		k.run = len(b) - 2 // the empty line
	}
	k.add(b[k.run:])
	if k.full {
		return nil
	}
	return k.lines
}

// hostAlone reports whether the only line that matters looks like Host. That is
// what most programs send; a browser adds Connection. The request line must be
// short enough to keep.
func (k *kept) hostAlone() bool {
	return k.fields == 1 && k.colon-k.start == len("host") && k.first <= mostKept
}

// requestLine returns a head of the request line alone.
func (k *kept) requestLine(b []byte) []byte {
	k.lines = append(k.lines[:0], b[:k.first]...)
	k.lines = append(k.lines, "\r\n"...)
	return k.lines
}

// matters reports whether a name of this first octet and length could be one that
// Parser.field knows.
func matters(first byte, length int) bool {
	switch length {
	case len("host"):
		return first|0x20 == 'h'
	case len("expect"):
		return first|0x20 == 'e'
	case len("connection"), len("content-length"):
		return first|0x20 == 'c'
	case len("transfer-encoding"):
		return first|0x20 == 't'
	}
	return false
}
