package engine

import (
	"bytes"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/httpparse"
)

// kind is what a request asks for, and what its answer says.
type kind uint8

const (
	hit     kind = iota + 1 // the number of this hit on its counter
	read                    // a counter's count at this place
	readSum                 // the sum of all counters at this place
	proceed                 // 100 Continue
	refusal                 // an error, known without the store
)

// contract says what requests mean: docs/http.md. Every engine asks it.
type contract struct {
	perPath bool // each path has a counter of its own
}

// What is refused beside what the parser refuses.
var (
	errMethodNotAllowed = &httpparse.Error{Name: "method_not_allowed", Status: 405, Reason: "method not allowed on /count", Section: "RFC 9110 15.5.6"}
	errNotImplemented   = &httpparse.Error{Name: "method_not_implemented", Status: 501, Reason: "method not implemented", Section: "RFC 9110 15.6.2"}
	errExpectation      = &httpparse.Error{Name: "unknown_expectation", Status: 417, Reason: "unknown expectation", Section: "RFC 9110 10.1.1"}
	errNameTooLong      = &httpparse.Error{Name: "name_too_long", Status: 414, Reason: "path too long for a counter", Section: "RFC 9110 15.5.15"}
	errTimeout          = &httpparse.Error{Name: "request_timeout", Status: 408, Reason: "request took too long", Section: "RFC 9110 15.5.9"}
	errTooManyConns     = &httpparse.Error{Name: "too_many_connections", Status: 503, Reason: "too many connections", Section: "RFC 9110 15.6.4"}
)

var (
	countPath = []byte("/count")
	rootPath  = []byte("/")
)

// judge says what a request asks for, and of which counter; name is empty where
// there is only one, else a part of path. path is compared as raw bytes; it is
// empty for OPTIONS *.
func (c contract) judge(method, path []byte) (k kind, name []byte, err *httpparse.Error) {
	m := string(method) // does not escape: no allocation
	if m == "CONNECT" || m == "TRACE" {
		return refusal, nil, errNotImplemented
	}
	if len(path) == 0 {
		path = rootPath
	}
	below, reads := bytes.CutPrefix(path, countPath)
	reads = reads && (len(below) == 0 || c.perPath && below[0] == '/')
	switch {
	case reads && m != "GET" && m != "HEAD":
		return refusal, nil, errMethodNotAllowed
	case reads && len(below) == 0:
		return readSum, nil, nil
	case reads:
		k, name = read, below
	case !c.perPath:
		return hit, nil, nil
	default:
		k, name = hit, path
	}
	if len(name) > counter.MaxName {
		return refusal, nil, errNameTooLong
	}
	return k, name, nil
}
