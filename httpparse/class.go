package httpparse

import (
	"bytes"
	"strings"
)

// Classes of octets, one bit each.
const (
	tchar      uint8 = 1 << iota // token: RFC 9110 5.6.2
	text                         // field value: VCHAR, SP, obs-text; RFC 9110 5.5. HTAB is not among them
	targetchar                   // request target: whatever is no space, control or '#'
	regname                      // reg-name without '%' and ',': RFC 3986 3.2.2
	digit
	hexdigit
)

var classes = func() (t [256]uint8) {
	set := func(class uint8, octets string) {
		for i := range len(octets) {
			t[octets[i]] |= class
		}
	}
	const (
		digits     = "0123456789"
		alnum      = digits + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		unreserved = alnum + "-._~"
		subDelims  = "!$&'()*+,;="
	)
	set(tchar, alnum+"!#$%&'*+-.^_`|~")
	// Without the comma, which reg-name could have: it is what joining two
	// Hosts into one list leaves, and no host's name has one.
	set(regname, unreserved+strings.ReplaceAll(subDelims, ",", ""))
	set(digit, digits)
	set(hexdigit, digits+"abcdefABCDEF")
	for c := 0x20; c < 256; c++ {
		if c != 0x7f {
			t[c] |= text | targetchar
		}
	}
	t[' '] &^= targetchar
	t['#'] &^= targetchar
	return t
}()

func isDigit(c byte) bool { return classes[c]&digit != 0 }
func isHex(c byte) bool   { return classes[c]&hexdigit != 0 }
func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func isToken(v []byte) bool {
	for _, c := range v {
		if classes[c]&tchar == 0 {
			return false
		}
	}
	return len(v) > 0
}

// trimSpace cuts OWS, RFC 9110 5.6.3, off both ends.
func trimSpace(v []byte) []byte {
	for len(v) > 0 && isSpace(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

// nextMember splits the first member off a comma-separated list.
func nextMember(list []byte) (member, rest []byte) {
	i := bytes.IndexByte(list, ',')
	if i < 0 {
		return trimSpace(list), nil
	}
	return trimSpace(list[:i]), list[i+1:]
}

// equalFold reports whether v is lower, which is in lower case, in any case of
// ASCII letters. v must have passed the gate: the octets that |0x20 would make
// equal to a digit or a '-' are controls.
func equalFold(v []byte, lower string) bool {
	if len(v) != len(lower) {
		return false
	}
	for i := range len(lower) {
		if v[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}
