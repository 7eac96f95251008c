package main

import (
	"fmt"
	"os"
	"time"

	"github.com/counterd/counterd/bench/stat"
)

// progress tells a person what is going on: one line that changes on a
// terminal, plain lines elsewhere.
type progress struct {
	to       *os.File
	terminal bool
	line     string
}

func newProgress(to *os.File) *progress {
	info, err := to.Stat()
	return &progress{to: to, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// Next implements lab.Progress.
func (p *progress) Next(done, all int, left time.Duration, what string) {
	p.line = what
	if all > 0 {
		p.line = fmt.Sprintf("[%*d/%d] %6s left  %s", len(fmt.Sprint(all)), done+1, all, left.Round(time.Second), what)
	}
	p.show("")
}

// Pair implements lab.Progress.
func (p *progress) Pair(n int, rps stat.Interval) {
	p.show(fmt.Sprintf("  pair %d, %s", n, rps.Format("%.3f")))
}

func (p *progress) show(more string) {
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s%s", p.line, more)
	}
}

// Done implements lab.Progress.
func (p *progress) Done(what string) {
	if p.terminal {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	fmt.Fprintf(p.to, "%s  %s\n", p.line, what)
}
