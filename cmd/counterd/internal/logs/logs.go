// Package logs writes the log without holding up those who log.
//
// Whoever logs puts a line into a bounded queue; one goroutine writes them. When
// nobody reads what is written, and so write(2) doesn't return, the queue fills up,
// further lines are dropped, and how many is said as soon as one can be written again.
//
// A place in the code logs once a second at most, since clients, or a lack of
// something, may cause its line a thousand times a second: the first record at once,
// the last of those that follow within the second at its end, with their number.
package logs

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	lines  = 1024        // that wait to be written
	second = time.Second // for which a place is quiet after a record
)

// Log is where loggers write to. It is safe for concurrent use, and nothing but
// Flush waits.
type Log struct {
	queue   chan []byte
	dropped atomic.Uint64
	written atomic.Uint64 // lines taken from the queue and written, or not to be written
	put     atomic.Uint64 // lines put into it
	changed chan struct{} // a token when written has grown
	direct  slog.Handler  // formats what the writer itself has to say
	places  places
}

// New returns a logger of records from level on, and the Log that writes them to w,
// as text or in JSON. The goroutine that writes stays for ever.
func New(w io.Writer, json bool, level slog.Level) (*slog.Logger, *Log) {
	l := &Log{queue: make(chan []byte, lines), changed: make(chan struct{}, 1)}
	l.places.seen = map[uintptr]*place{}
	format := func(w io.Writer) slog.Handler {
		o := &slog.HandlerOptions{Level: level}
		if json {
			return slog.NewJSONHandler(w, o)
		}
		return slog.NewTextHandler(w, o)
	}
	l.direct = format(w)
	go l.write(w)
	return slog.New(&handler{&l.places, format(l)}), l
}

// Write queues a copy of line. It never fails.
func (l *Log) Write(line []byte) (int, error) {
	l.put.Add(1)
	select {
	case l.queue <- append([]byte(nil), line...):
	default:
		l.put.Add(^uint64(0))
		l.dropped.Add(1)
	}
	return len(line), nil
}

func (l *Log) write(w io.Writer) {
	for line := range l.queue {
		// Whoever read it may have gone away; that is no reason to stop.
		_, _ = w.Write(line)
		l.written.Add(1)
		if n := l.dropped.Swap(0); n > 0 {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log were dropped", 0)
			r.AddAttrs(slog.Uint64("lines", n))
			if l.direct.Enabled(context.Background(), r.Level) {
				_ = l.direct.Handle(context.Background(), r)
			}
		}
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

// Flush lets go of what places hold back, and waits until all that was logged before
// is written, but no longer than patience.
func (l *Log) Flush(patience time.Duration) {
	l.places.flush()
	late := time.NewTimer(patience)
	defer late.Stop()
	for want := l.put.Load(); l.written.Load() < want; {
		select {
		case <-l.changed:
		case <-late.C:
			return
		}
	}
}

// handler passes records on, once a second for each place.
type handler struct {
	places *places
	next   slog.Handler
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.places, h.next.WithAttrs(attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.places, h.next.WithGroup(name)}
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if h.places.hold(h.next, r) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// places are those in the code that have logged within the last second. The zero
// value of their program counter stands for all that isn't known.
type places struct {
	mu   sync.Mutex
	seen map[uintptr]*place
}

// place holds back its last record.
type place struct {
	next slog.Handler
	last slog.Record
	more int // records held back, of which only the last is known
}

// hold keeps r back if its place has logged within the last second.
func (p *places) hold(next slog.Handler, r slog.Record) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.seen[r.PC]; at != nil {
		at.next, at.last = next, r.Clone()
		at.more++
		return true
	}
	p.seen[r.PC] = &place{}
	time.AfterFunc(second, func() { p.quiet(r.PC) })
	return false
}

// quiet ends a second of a place: what it holds back is logged, and begins another.
func (p *places) quiet(pc uintptr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.seen[pc]
	if at.more == 0 {
		delete(p.seen, pc)
		return
	}
	at.release()
	time.AfterFunc(second, func() { p.quiet(pc) })
}

// release logs what is held back.
func (at *place) release() {
	if at.more == 0 {
		return
	}
	if at.more > 1 {
		at.last.AddAttrs(slog.Int("times", at.more))
	}
	_ = at.next.Handle(context.Background(), at.last)
	at.more = 0
}

func (p *places) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.seen {
		at.release()
	}
}
