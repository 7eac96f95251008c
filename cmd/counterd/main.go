//go:build !man

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
)

func main() {
	crashBySignal()
	root := newRoot()
	err := root.Execute()
	if err == nil {
		return
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(os.Stderr, "counterd:", err)
		os.Exit(exitUsage)
	}
	if !errors.Is(err, errLogged) {
		fmt.Fprintln(os.Stderr, "counterd:", oneLine(err))
	}
	os.Exit(exitFailed)
}

// crashBySignal makes every crash end the process by SIGABRT, after it has printed all
// goroutines. By default Go exits with 2, which is the code of a wrong command line
// here: a service manager must try again after the one and not after the other.
func crashBySignal() { debug.SetTraceback("crash") }
