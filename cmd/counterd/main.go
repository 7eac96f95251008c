package main

import (
	"errors"
	"fmt"
	"os"
)

// Exit codes. Scripts and service managers rely on them.
const (
	exitFailed = 1 // couldn't start, or didn't stop cleanly
	exitUsage  = 2 // the command line or an environment variable is wrong
)

func main() {
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
		fmt.Fprintln(os.Stderr, "counterd:", err)
	}
	os.Exit(exitFailed)
}
