package httpparse

// Error says why a connection can't go on. Every error of this package is one
// of the package-level values below: none is allocated while parsing, and they
// compare with ==.
//
// The connection must be answered with Status and closed: after a framing
// error nobody knows where the next request would begin.
type Error struct {
	Status  int    // HTTP status code to answer with
	Reason  string // one stable line, never beginning with a digit; fit for a response body and a metric label
	Section string // where the rule stands, such as "RFC 9112 2.2"
}

func (e *Error) Error() string { return "httpparse: " + e.Reason }

// What Next refuses. The names say what was wrong in the request.
var (
	// The request line.
	ErrRequestLine = &Error{400, "malformed request line", "RFC 9112 3"}
	ErrMethod      = &Error{400, "malformed method", "RFC 9112 3.1"}
	ErrTarget      = &Error{400, "malformed request target", "RFC 9112 3.2"}
	ErrAuthority   = &Error{400, "malformed authority in request target", "RFC 9112 3.2"}
	ErrVersion     = &Error{400, "malformed HTTP version", "RFC 9112 2.3"}
	ErrMajor       = &Error{505, "HTTP version not supported", "RFC 9110 15.6.6"}

	// Lines and fields.
	ErrControl    = &Error{400, "control byte in head", "RFC 9110 5.5"}
	ErrLineEnd    = &Error{400, "line not ended by CRLF", "RFC 9112 2.2"}
	ErrFold       = &Error{400, "whitespace at start of field line", "RFC 9112 5.2"}
	ErrFieldName  = &Error{400, "malformed field name", "RFC 9112 5.1"}
	ErrFieldColon = &Error{400, "whitespace before colon", "RFC 9112 5.1"}

	// Fields that matter.
	ErrHostMissing   = &Error{400, "missing Host", "RFC 9112 3.2"}
	ErrHostRepeated  = &Error{400, "more than one Host", "RFC 9112 3.2"}
	ErrHost          = &Error{400, "malformed Host", "RFC 9112 3.2"}
	ErrLength        = &Error{400, "malformed Content-Length", "RFC 9112 6.3"}
	ErrLengthTwice   = &Error{400, "more than one Content-Length", "RFC 9112 6.3"}
	ErrLengthCoding  = &Error{400, "Transfer-Encoding with Content-Length", "RFC 9112 6.1"}
	ErrCoding        = &Error{400, "Transfer-Encoding does not end in one chunked", "RFC 9112 6.3"}
	ErrCodingVersion = &Error{400, "Transfer-Encoding before HTTP/1.1", "RFC 9112 6.1"}
	ErrCodingUnknown = &Error{501, "transfer coding not supported", "RFC 9112 6.1"}

	// The chunked body.
	ErrChunkSize = &Error{400, "malformed chunk size", "RFC 9112 7.1"}
	ErrChunkExt  = &Error{400, "malformed chunk extension", "RFC 9112 7.1.1"}
	ErrChunkEnd  = &Error{400, "chunk not ended by CRLF", "RFC 9112 7.1"}
	ErrTrailer   = &Error{400, "field not allowed in trailer", "RFC 9110 6.5.1"}

	// Limits.
	ErrMethodTooLong   = &Error{501, "method too long", "RFC 9112 3"}
	ErrTargetTooLong   = &Error{414, "request target too long", "RFC 9112 3"}
	ErrHeadTooLarge    = &Error{431, "request header fields too large", "RFC 6585 5"}
	ErrTrailerTooLarge = &Error{431, "trailer fields too large", "RFC 6585 5"}
	ErrBodyTooLarge    = &Error{413, "request body too large", "RFC 9110 15.5.14"}

	// ErrFailed answers a Next after an error: nothing that follows an error
	// may be read as a request.
	ErrFailed = &Error{400, "request after a malformed one", "RFC 9112 9.6"}
	// ErrTokenizer would mean that the gate let something through that the
	// tokenizer reads otherwise. The fuzz tests look for it.
	ErrTokenizer = &Error{400, "request read in two ways", "RFC 9112 2.2"}
)
