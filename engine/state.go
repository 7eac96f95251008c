package engine

// state is where a connection stands with its event loop. docs/design.md has the
// picture.
type state uint8

const (
	fresh     state = iota // waits for its first request
	graced                 // the same in a drain: a short wait
	idle                   // between requests, and owed nothing
	reading                // a request is partly there
	waiting                // is owed answers
	lingering              // half-closed by us, and read off

	listed // how many states have a list

	leaving // a goroutine has to take it over
	gone    // closed, or served by a goroutine: not the loop's to touch
)

// live reports whether requests are taken from a connection in this state.
func (s state) live() bool { return s < lingering }

// facts are what decides where a live connection stands after an event.
type facts struct {
	answered bool // a request was whole: what comes next is another
	blocked  bool // its socket takes no more
	ended    bool // the last answer is owed or sent
	owed     bool // answers wait for their batch
	full     bool // as many of them as it may be owed
	flooding bool // and it has sent much beyond them
	between  bool // nothing of a request is there
	draining bool
}

// next is where a connection that stood in s stands after an event.
func (s state) next(f facts) state {
	switch {
	case f.blocked:
		return leaving
	case f.ended && f.owed:
		return waiting
	case f.ended:
		return lingering
	case f.full && f.flooding:
		return leaving // a loop cannot choose not to read
	case f.full:
		return waiting
	case !f.between:
		return reading
	case f.owed:
		return waiting
	case f.answered || s == idle || s == waiting:
		if f.draining {
			return lingering
		}
		return idle
	case f.draining:
		return graced
	default:
		return s // an empty line is not yet a request: its time runs on
	}
}
