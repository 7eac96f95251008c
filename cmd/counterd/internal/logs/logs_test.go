package logs

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stuck is a log whose reader may stand still.
type stuck struct {
	mu      sync.Mutex // held: nothing is read
	written bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.Write(p)
}

func (s *stuck) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.String()
}

// TestStuckReaderHoldsNobodyUp: lines beyond the queue are dropped, and their number
// stands where they are missing.
func TestStuckReaderHoldsNobodyUp(t *testing.T) {
	var w stuck
	_, l := New(&w, false, slog.LevelInfo)
	w.mu.Lock()
	const all = 3 * lines
	for i := range all {
		fmt.Fprintf(l, "line %d\n", i)
	}
	begin := time.Now()
	l.Flush(50 * time.Millisecond)
	if took := time.Since(begin); took < 50*time.Millisecond || took > 20*time.Second {
		t.Errorf("a flush that can't end took %v", took)
	}
	w.mu.Unlock()
	l.Flush(time.Minute)
	fmt.Fprintln(l, "last")
	l.Flush(time.Minute)

	text := w.String()
	kept := strings.Count(text, "line ")
	if kept < lines || kept > lines+1 { // one may have been on its way
		t.Errorf("%d lines were kept, want %d", kept, lines)
	}
	if want := fmt.Sprintf(`level=WARN msg="lines of the log were dropped" lines=%d`, all-kept); !strings.Contains(text, want) {
		t.Errorf("no %q in …%s", want, text[max(0, len(text)-300):])
	}
	if !strings.HasSuffix(text, "last\n") {
		t.Error("what was logged later is not the last line")
	}
}

// TestPlaceLogsOnceASecond: the first record at once, then the last of each second
// with the number of those since; other places go on.
func TestPlaceLogsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &places{seen: map[uintptr]*place{}}
		log := slog.New(&handler{p, slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})})
		want := func(text string) {
			t.Helper()
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := out.String(); got != text {
				t.Fatalf("%v: logged %q, want %q", time.Now(), got, text)
			}
			out.Reset()
		}
		for i := range 1000 {
			shortage(log, i)
		}
		log.Error("another")
		want("level=WARN msg=shortage i=0\nlevel=ERROR msg=another\n")
		time.Sleep(second + 1)
		want("level=WARN msg=shortage i=999 times=999\n")
		shortage(log, 1000)
		want("")
		time.Sleep(second)
		want("level=WARN msg=shortage i=1000\n") // alone, and so only late
		time.Sleep(second)
		shortage(log, 1001)
		want("level=WARN msg=shortage i=1001\n")
		shortage(log, 1002)
		shortage(log, 1003)
		p.flush()
		want("level=WARN msg=shortage i=1003 times=2\n")
		time.Sleep(2 * second)
		want("")
		if len(p.seen) != 0 {
			t.Errorf("%d places are remembered", len(p.seen))
		}
	})
}

// shortage is one place, also where it is called from several.
//
//go:noinline
func shortage(log *slog.Logger, i int) { log.Warn("shortage", "i", i) }

func TestFormatIsAsChosen(t *testing.T) {
	for _, c := range []struct {
		json bool
		want string
	}{
		{false, `level=WARN msg=m a=1 g.b=2` + "\n"},
		{true, `"level":"WARN","msg":"m","a":1,"g":{"b":2}}` + "\n"},
	} {
		var w stuck
		log, l := New(&w, c.json, slog.LevelWarn)
		log.Info("not this")
		log.With("a", 1).WithGroup("g").Warn("m", "b", 2)
		l.Flush(time.Minute)
		if got := w.String(); strings.Contains(got, "not this") || !strings.HasSuffix(got, c.want) {
			t.Errorf("json=%t: %q, want …%q", c.json, got, c.want)
		}
	}
}

// BenchmarkHeldBack is what a record costs that isn't written.
func BenchmarkHeldBack(b *testing.B) {
	log, _ := New(io.Discard, false, slog.LevelInfo)
	for b.Loop() {
		log.Warn("accept failed", "err", io.EOF)
	}
}
