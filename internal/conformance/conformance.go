// Package conformance holds what counterd answers to HTTP/1.1 bytes, rule by
// rule: one table that runs against the parser and, over sockets, against every
// engine.
package conformance

// Levels of a rule.
const (
	Must   = "MUST"
	Should = "SHOULD"
	May    = "MAY"
	Choice = "choice" // the RFC leaves it to the server, or to counterd's own contract
)

// Conn is what becomes of the connection after an answer.
type Conn uint8

const (
	Keep   Conn = iota // it serves the next request
	Close              // the answer says so, and it closes
	Either             // an engine may do as it likes
)

// Outcome is what one request of a row comes to.
type Outcome struct {
	Status int // 100 for an interim answer that must come
	// Read: the 200 shows the count and counts nothing. Otherwise a 200
	// answers a hit with its number.
	Read bool
	Head bool // the answer has no body
	Conn Conn
}

// Row is one rule and an input that shows it.
type Row struct {
	Section string // of the RFC
	Level   string
	Name    string // unique
	Bytes   string // what the client sends, in one connection
	// Want are the answers, in order. After one that closes, nothing more
	// comes, whatever Bytes still holds.
	Want []Outcome
	// Open: after the answers of Want the bytes end within a request, and the
	// server waits for more.
	Open bool
	// Engine: decided by the engine's policy, not by the parser alone.
	Engine bool
	// StdNote, if any, says what Go's net/http does instead, and with it the
	// std engine. Std and StdOpen then stand for Want and Open.
	StdNote string
	Std     []Outcome
	StdOpen bool
	// Also, if any, are the answers of a server that reads the row in another
	// way which the RFCs allow. Score takes them too.
	Also []Outcome
}

// Rows is the table.
var Rows = build()

func build() []Row {
	var rows []Row
	for _, group := range [][]Row{
		messageRows(), versionRows(), requestLineRows(), methodRows(), targetRows(), hostRows(),
		fieldRows(), lengthRows(), codingRows(), chunkRows(), trailerRows(), connectionRows(),
		semanticsRows(), attackRows(), limitRows(),
	} {
		rows = append(rows, group...)
	}
	for i := range rows {
		if d, ok := stdDiffers[rows[i].Name]; ok {
			rows[i].Std, rows[i].StdOpen, rows[i].StdNote = d.want, d.open, d.note
		}
		for _, group := range alsoRight {
			if group.names(rows[i]) {
				rows[i].Also = group.want
			}
		}
	}
	return rows
}

// The outcomes most rows have.
var (
	hit       = Outcome{Status: 200}
	lastHit   = Outcome{Status: 200, Conn: Close}
	read      = Outcome{Status: 200, Read: true}
	bad       = Outcome{Status: 400, Conn: Close}
	tooBig    = Outcome{Status: 413, Conn: Close}
	tooLong   = Outcome{Status: 414, Conn: Close}
	fieldsBig = Outcome{Status: 431, Conn: Close}
	notImpl   = Outcome{Status: 501, Conn: Close}
	version   = Outcome{Status: 505, Conn: Close}
	refused   = Outcome{Status: 501, Conn: Either}
	notMethod = Outcome{Status: 405}
)

func want(o ...Outcome) []Outcome { return o }

// next is a request that shows, behind another, that the boundary was found.
const next = "GET /next HTTP/1.1\r\nHost: next\r\n\r\n"

// get is a GET with these field lines besides Host.
func get(fields string) string { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" }

// get10 is a GET of HTTP/1.0.
func get10(fields string) string { return "GET / HTTP/1.0\r\n" + fields + "\r\n" }

// post is a POST with these field lines besides Host, and a body.
func post(fields, body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body
}

// line is a request with this request line.
func line(l string) string { return l + "\r\nHost: a\r\n\r\n" }

// chunks is a POST with this chunked body.
func chunks(body string) string { return post("Transfer-Encoding: chunked\r\n", body) }

// target is a GET with this target.
func target(t string) string { return line("GET " + t + " HTTP/1.1") }

// host is a GET with this Host.
func host(h string) string { return "GET / HTTP/1.1\r\nHost: " + h + "\r\n\r\n" }
