package main

import (
	"fmt"
	"os"
	"time"
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

func (p *progress) Turn(done, all int, left time.Duration, what string) {
	p.line = fmt.Sprintf("[%*d/%d] %6s left  %s", width(all), done+1, all, left.Round(time.Second), what)
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s", p.line)
	}
}

func (p *progress) Done(what string) {
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s  %s\n", p.line, what)
		return
	}
	fmt.Fprintf(p.to, "%s  %s\n", p.line, what)
}

func width(n int) int { return len(fmt.Sprint(n)) }
