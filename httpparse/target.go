package httpparse

import "bytes"

// CheckTarget judges a request target, which is not empty, as a Parser does, for
// requests that something else has parsed. The path that it returns is a part of
// target, or "/", as in Request.Path. It allocates nothing.
func CheckTarget(method, target []byte) (path []byte, err error) {
	for _, c := range target {
		if classes[c]&targetchar == 0 {
			return nil, ErrTarget
		}
	}
	r := Request{Method: method, Target: target}
	if err := r.target(); err != nil {
		return nil, err
	}
	return r.Path, nil
}

// target judges r.Target, whose octets the gate has checked, and splits it.
func (r *Request) target() *Error {
	switch t := r.Target; {
	case string(r.Method) == "CONNECT":
		return r.authority()
	case t[0] == '/':
		r.setPath(t)
		return nil
	case len(t) == 1 && t[0] == '*' && string(r.Method) == "OPTIONS":
		r.TargetForm = AsteriskForm
		return nil
	}
	return r.absolute()
}

// authority judges the target of CONNECT, RFC 9110 9.3.6: a host, and a port
// that exists.
func (r *Request) authority() *Error {
	host, port, ok := splitHostPort(r.Target)
	if !ok || len(host) == 0 || portNumber(port) <= 0 {
		return ErrAuthority
	}
	r.TargetForm = AuthorityForm
	r.Host = r.Target
	return nil
}

// absolute judges an absolute-form target. Only the schemes that this protocol
// serves are taken: any other has no authority that Host could be, and
// "example.com:80" would pass for a scheme and a path.
func (r *Request) absolute() *Error {
	t := r.Target
	switch {
	case len(t) >= 7 && equalFold(t[:7], "http://"):
		t = t[7:]
	case len(t) >= 8 && equalFold(t[:8], "https://"):
		t = t[8:]
	default:
		return ErrTarget
	}
	i := 0
	for i < len(t) && t[i] != '/' && t[i] != '?' {
		i++
	}
	if !validHostPort(t[:i]) {
		return ErrAuthority
	}
	r.TargetForm = AbsoluteForm
	r.Host = t[:i]
	r.setPath(t[i:])
	if len(r.Path) == 0 {
		r.Path = slash
	}
	return nil
}

var slash = []byte("/")

// setPath takes the path of t, which is a path and a query. Both are taken as
// they come: browsers and other clients send octets there that RFC 3986 does not
// allow, and no framing depends on them.
func (r *Request) setPath(t []byte) {
	r.Path = t
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		r.Path = t[:i:i]
	}
}

// validHostPort reports whether v is uri-host [ ":" port ] of RFC 9110 7.2, not
// empty, without user information.
func validHostPort(v []byte) bool {
	host, port, ok := splitHostPort(v)
	return ok && len(host) > 0 && portNumber(port) >= 0
}

// splitHostPort splits v and reports whether the host is well-formed.
func splitHostPort(v []byte) (host, port []byte, ok bool) {
	if len(v) > 0 && v[0] == '[' {
		return splitLiteral(v)
	}
	for i := 0; i < len(v); i++ {
		c := v[i]
		if classes[c]&regname != 0 {
			continue
		}
		if c == ':' {
			return v[:i], v[i+1:], true
		}
		if c != '%' || i+2 >= len(v) || !isHex(v[i+1]) || !isHex(v[i+2]) {
			return nil, nil, false
		}
		i += 2
	}
	return v, nil, true
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

// portNumber returns the number of a port, 0 of an empty one, or -1 if v isn't
// a port.
func portNumber(v []byte) int {
	n := 0
	for _, c := range v {
		d := int(c) - '0'
		if n = n*10 + d; uint(d) > 9 || n > 65535 {
			return -1
		}
	}
	return n
}

// validIPv6 reports whether v is an IPv6address of RFC 3986 3.2.2: up to eight
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

// validIPv4 reports whether v is four decimal octets without leading zeros.
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

// validIPvFuture reports whether v is "v" 1*HEXDIG "." 1*( unreserved /
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
