package httpparse

import "bytes"

// requestLine judges a complete request line, without its CRLF. The version
// comes before the target: HTTP/2's preface deserves to be told its version.
func (st *State) requestLine(line []byte) *Error {
	i := 0
	for i < len(line) && classes[line[i]]&tchar != 0 {
		i++
	}
	if i == len(line) {
		return ErrRequestLine
	}
	if i == 0 || line[i] != ' ' {
		return ErrMethod
	}
	st.methodEnd = int32(i)
	j := i + 1 + bytes.IndexByte(line[i+1:], ' ')
	if j <= i+1 { // no second space, or an empty target
		return ErrRequestLine
	}
	st.targetEnd = int32(j)
	if err := st.version(line[j+1:]); err != nil {
		return err
	}
	return st.target(line, i+1, j)
}

func (st *State) version(v []byte) *Error {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || !isDigit(v[5]) || !isDigit(v[7]) {
		return ErrVersion
	}
	if v[5] != '1' {
		return ErrMajor
	}
	if v[7] != '0' {
		st.minor = 1
	}
	return nil
}

// target judges line[start:end].
func (st *State) target(line []byte, start, end int) *Error {
	method, target := line[:st.methodEnd], line[start:end]
	if string(method) == "CONNECT" {
		st.form = AuthorityForm
		st.flags |= absoluteHost
		st.hostStart, st.hostEnd = int32(start), int32(end)
		if !validConnect(target) {
			return ErrAuthority
		}
		return nil
	}
	if target[0] == '/' {
		return st.path(line, start, end)
	}
	if len(target) == 1 && target[0] == '*' && string(method) == "OPTIONS" {
		st.form = AsteriskForm
		return nil
	}
	return st.absolute(line, start, end)
}

// absolute judges an absolute-form target. Only the schemes that this protocol
// serves are taken: any other has no authority that Host could be, and
// "example.com:80" would pass for a scheme and a path.
func (st *State) absolute(line []byte, start, end int) *Error {
	st.form = AbsoluteForm
	t := line[start:end]
	switch {
	case len(t) >= 7 && equalFold(t[:7], "http://"):
		start += 7
	case len(t) >= 8 && equalFold(t[:8], "https://"):
		start += 8
	default:
		return ErrTarget
	}
	i := start
	for i < end && line[i] != '/' && line[i] != '?' {
		i++
	}
	if !validHostPort(line[start:i]) {
		return ErrAuthority
	}
	st.flags |= absoluteHost
	st.hostStart, st.hostEnd = int32(start), int32(i)
	return st.path(line, i, end)
}

// path judges a path and a query. Its end is the first '?'.
func (st *State) path(line []byte, start, end int) *Error {
	st.pathStart, st.pathEnd = int32(start), int32(end)
	sawQuery := false
	for i := start; i < end; i++ {
		c := line[i]
		if classes[c]&pathchar != 0 {
			continue
		}
		switch {
		case c == '?':
			if !sawQuery {
				st.pathEnd = int32(i)
				sawQuery = true
			}
		case c == '%' && i+2 < end && isHex(line[i+1]) && isHex(line[i+2]):
			i += 2
		default:
			return ErrTarget
		}
	}
	return nil
}

// validHostPort tells whether v is uri-host [ ":" port ] of RFC 9110 7.2, not
// empty, without user information.
func validHostPort(v []byte) bool {
	host, port, ok := splitHostPort(v)
	return ok && len(host) > 0 && (len(port) == 0 || portNumber(port) >= 0)
}

// validConnect tells whether v is what CONNECT asks for, RFC 9110 9.3.6: a
// host and a port that exists.
func validConnect(v []byte) bool {
	host, port, ok := splitHostPort(v)
	return ok && len(host) > 0 && len(port) > 0 && portNumber(port) > 0
}

// splitHostPort splits v and tells whether the host is well-formed.
func splitHostPort(v []byte) (host, port []byte, ok bool) {
	if len(v) > 0 && v[0] == '[' {
		return splitLiteral(v)
	}
	i := 0
	for i < len(v) && classes[v[i]]&regname != 0 {
		i++
	}
	for i < len(v) && v[i] != ':' {
		switch {
		case classes[v[i]]&regname != 0:
			i++
		case v[i] == '%' && i+2 < len(v) && isHex(v[i+1]) && isHex(v[i+2]):
			i += 3
		default:
			return nil, nil, false
		}
	}
	if i == len(v) {
		return v, nil, true
	}
	return v[:i], v[i+1:], true
}

// splitLiteral splits an IP-literal, such as [::1], from its port.
func splitLiteral(v []byte) (host, port []byte, ok bool) {
	i := bytes.IndexByte(v, ']')
	if i < 0 || !validIPv6(v[1:i]) && !validIPvFuture(v[1:i]) {
		return nil, nil, false
	}
	host, rest := v[:i+1], v[i+1:]
	if len(rest) == 0 {
		return host, nil, true
	}
	return host, rest[1:], rest[0] == ':'
}

// portNumber returns the number of a port, or -1 if v isn't one.
func portNumber(v []byte) int {
	n := 0
	for _, c := range v {
		if !isDigit(c) {
			return -1
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return -1
		}
	}
	return n
}

// validIPv6 tells whether v is an IPv6address of RFC 3986 3.2.2: up to eight
// groups of one to four hex digits, one run of which "::" may stand for, and
// an IPv4 address in place of the last two.
func validIPv6(v []byte) bool {
	groups, gap := 0, false
	if len(v) >= 2 && v[0] == ':' && v[1] == ':' {
		gap = true
		v = v[2:]
	}
	for len(v) > 0 {
		n := 0
		for n < len(v) && n < 5 && isHex(v[n]) {
			n++
		}
		if n < len(v) && v[n] == '.' {
			groups += 2
			return validIPv4(v) && (groups == 8 && !gap || gap && groups < 8)
		}
		if n == 0 || n > 4 {
			return false
		}
		groups++
		v = v[n:]
		if len(v) == 0 {
			break
		}
		if len(v) == 1 || v[0] != ':' {
			return false
		}
		v = v[1:]
		if v[0] == ':' {
			if gap {
				return false
			}
			gap = true
			v = v[1:]
		}
	}
	return groups == 8 && !gap || gap && groups < 8
}

// validIPv4 tells whether v is four decimal octets without leading zeros.
func validIPv4(v []byte) bool {
	for octet := 0; octet < 4; octet++ {
		n, value := 0, 0
		for n < len(v) && n < 4 && isDigit(v[n]) {
			value = value*10 + int(v[n]-'0')
			n++
		}
		if n == 0 || n > 3 || value > 255 || n > 1 && v[0] == '0' {
			return false
		}
		v = v[n:]
		if octet == 3 {
			return len(v) == 0
		}
		if len(v) == 0 || v[0] != '.' {
			return false
		}
		v = v[1:]
	}
	return false
}

// validIPvFuture tells whether v is "v" 1*HEXDIG "." 1*( unreserved /
// sub-delims / ":" ), RFC 3986 3.2.2.
func validIPvFuture(v []byte) bool {
	if len(v) == 0 || v[0]|0x20 != 'v' {
		return false
	}
	i := 1
	for i < len(v) && isHex(v[i]) {
		i++
	}
	if i == 1 || i+1 >= len(v) || v[i] != '.' {
		return false
	}
	for _, c := range v[i+1:] {
		if classes[c]&regname == 0 && c != ':' {
			return false
		}
	}
	return true
}
