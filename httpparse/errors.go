package httpparse

import "slices"

// Error says why a connection can't go on. Every error of Next is one of the
// package-level values below: none is allocated while parsing, and they compare
// with ==.
//
// The connection must be answered with Status and closed: after a framing error
// nobody knows where the next request would begin. Whether the answer may have a
// body, State.Reply says.
type Error struct {
	Name    string // a word in snake_case that never changes: for the label of a metric
	Status  int    // HTTP status code to answer with
	Reason  string // one line, never beginning with a digit: for the body of the answer
	Section string // where the rule stands, such as "RFC 9112 2.2"
}

func (e *Error) Error() string { return "httpparse: " + e.Reason }

// Errors returns all that Next may return, so that a metric can begin at zero for
// each. The slice is the caller's.
func Errors() []*Error { return slices.Clone(refusals) }

var refusals []*Error // filled as the values below are made

func refuse(name string, status int, reason, section string) *Error {
	e := &Error{name, status, reason, section}
	refusals = append(refusals, e)
	return e
}

// What Next refuses. The names say what was wrong in the request.
var (
	// The request line.
	ErrRequestLine = refuse("malformed_request_line", 400, "malformed request line", "RFC 9112 3")
	ErrMethod      = refuse("malformed_method", 400, "malformed method", "RFC 9112 3.1")
	ErrTarget      = refuse("malformed_target", 400, "malformed request target", "RFC 9112 3.2")
	ErrAuthority   = refuse("malformed_authority", 400, "malformed authority in request target", "RFC 9112 3.2")
	ErrVersion     = refuse("malformed_version", 400, "malformed HTTP version", "RFC 9112 2.3")
	ErrMajor       = refuse("unsupported_version", 505, "HTTP version not supported", "RFC 9110 15.6.6")

	// Lines and fields.
	ErrControl    = refuse("control_byte", 400, "control byte in head", "RFC 9110 5.5")
	ErrLineEnd    = refuse("malformed_line_end", 400, "line not ended by CRLF", "RFC 9112 2.2")
	ErrFold       = refuse("folded_line", 400, "whitespace at start of field line", "RFC 9112 5.2")
	ErrFieldName  = refuse("malformed_field_name", 400, "malformed field name", "RFC 9112 5.1")
	ErrFieldColon = refuse("space_before_colon", 400, "whitespace before colon", "RFC 9112 5.1")

	// Fields that matter.
	ErrHostMissing   = refuse("missing_host", 400, "missing Host", "RFC 9112 3.2")
	ErrHostRepeated  = refuse("repeated_host", 400, "more than one Host", "RFC 9112 3.2")
	ErrHost          = refuse("malformed_host", 400, "malformed Host", "RFC 9112 3.2")
	ErrLength        = refuse("malformed_content_length", 400, "malformed Content-Length", "RFC 9112 6.3")
	ErrLengthTwice   = refuse("repeated_content_length", 400, "more than one Content-Length", "RFC 9112 6.3")
	ErrLengthCoding  = refuse("content_length_with_transfer_encoding", 400, "Transfer-Encoding with Content-Length", "RFC 9112 6.1")
	ErrCoding        = refuse("malformed_transfer_encoding", 400, "Transfer-Encoding does not end in one chunked", "RFC 9112 6.3")
	ErrCodingVersion = refuse("transfer_encoding_in_http_1_0", 400, "Transfer-Encoding before HTTP/1.1", "RFC 9112 6.1")
	ErrCodingUnknown = refuse("unknown_transfer_coding", 501, "transfer coding not supported", "RFC 9112 6.1")

	// The chunked body.
	ErrChunkSize = refuse("malformed_chunk_size", 400, "malformed chunk size", "RFC 9112 7.1")
	ErrChunkExt  = refuse("malformed_chunk_extension", 400, "malformed chunk extension", "RFC 9112 7.1.1")
	ErrChunkEnd  = refuse("malformed_chunk_end", 400, "chunk not ended by CRLF", "RFC 9112 7.1")
	ErrTrailer   = refuse("forbidden_trailer", 400, "field not allowed in trailer", "RFC 9110 6.5.1")

	// Limits.
	ErrMethodTooLong   = refuse("method_too_long", 501, "method too long", "RFC 9112 3")
	ErrTargetTooLong   = refuse("target_too_long", 414, "request target too long", "RFC 9112 3")
	ErrHeadTooLarge    = refuse("fields_too_large", 431, "request header fields too large", "RFC 6585 5")
	ErrTrailerTooLarge = refuse("trailer_too_large", 431, "trailer fields too large", "RFC 6585 5")
	ErrBodyTooLarge    = refuse("body_too_large", 413, "request body too large", "RFC 9110 15.5.14")

	// ErrFailed answers a Next after an error: nothing that follows an error
	// may be read as a request.
	ErrFailed = refuse("request_after_error", 400, "request after a malformed one", "RFC 9112 9.6")
	// ErrTokenizer would mean that the gate let something through that the
	// tokenizer reads otherwise. The fuzz tests look for it.
	ErrTokenizer = refuse("ambiguous_request", 400, "request read in two ways", "RFC 9112 2.2")
)
