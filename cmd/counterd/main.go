//go:build !man

package main

import (
	"errors"
	"fmt"
	"os"
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
		fmt.Fprintln(os.Stderr, "counterd:", oneLine(err))
	}
	os.Exit(exitFailed)
}
