// Package httpparse frames HTTP/1.1 requests: bytes in, requests out, by
// RFC 9112 and the parts of RFC 9110 that concern a server.
package httpparse
