package admin

import (
	"strconv"
	"time"
)

// alarm is something that is wrong, as the page says it.
type alarm struct {
	Level   string `json:"level"` // bad or warn
	Tab     string `json:"tab"`   // in a word or two, for the tab's title
	Title   string `json:"title"`
	Words   string `json:"words"`   // the store's own, or what is at its limit
	Clients string `json:"clients"` // what they get
	Since   int64  `json:"since"`   // Unix time
}

// alarms are what is wrong now, the worst first; a is the store's last answer. It
// is called with mu held.
func (l *live) alarms(a answer) []alarm {
	all := []alarm{}
	began := make(map[string]int64)
	raise := func(what alarm) {
		since, known := l.began[what.Title]
		if !known {
			since = l.window.last().at.Unix()
		}
		what.Since, began[what.Title] = since, since
		all = append(all, what)
	}

	switch {
	case a.err == nil:
	case a.readable:
		all = append(all, alarm{
			Level: "bad", Tab: "hits refused", Title: "The store takes no hits", Words: a.err.Error(),
			Clients: "Hits get 503 with Retry-After. Reads are answered.",
			Since:   a.since.Unix(),
		})
	default:
		all = append(all, alarm{
			Level: "bad", Tab: "store down", Title: "The store is down", Words: a.err.Error(),
			Clients: "Hits and reads get 503 with Retry-After.",
			Since:   a.since.Unix(),
		})
	}
	if a.err == nil && l.window.unavailable() {
		raise(alarm{
			Level: "warn", Tab: "some 503", Title: "Some requests got 503",
			Words:   "The store answers, but in the last seconds not always in time.",
			Clients: "Hits and reads that it didn't settle got 503 with Retry-After.",
		})
	}
	if l.window.rejected() {
		raise(alarm{
			Level: "warn", Tab: "connections full", Title: "No room for more connections",
			Words:   ofMost(l.now.Open, int64(l.s.opts.MaxConns)) + " are open.",
			Clients: "New ones get 503 with Retry-After and are closed.",
		})
	}
	if l.s.opts.Counters != nil && l.window.names() {
		raise(alarm{
			Level: "warn", Tab: "counters full", Title: "No room for more counters",
			Words:   ofMost(l.s.opts.Counters.Names()) + " are in use.",
			Clients: "Hits on new paths get 507 and count nothing. Those that exist count as ever.",
		})
	}
	if l.now.Draining {
		raise(alarm{
			Level: "warn", Tab: "stopping", Title: "This server is stopping",
			Words:   "It ends when what it has received is answered.",
			Clients: "Requests are still answered. /readyz says 503, so that balancers go elsewhere.",
		})
	}
	l.began = began
	return all
}

func ofMost(n, most int64) string {
	return grouped(strconv.FormatInt(n, 10)) + " of " + grouped(strconv.FormatInt(most, 10))
}

// Time is when it began, for a page without its script.
func (a alarm) Time() string { return time.Unix(a.Since, 0).UTC().Format("2006-01-02 15:04:05 UTC") }
