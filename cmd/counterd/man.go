//go:build man

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"
)

// main, when built with the tag man, writes the man pages of every command to
// the directory that is its only argument. The release does so; counterd itself
// carries no generator.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "want: a directory for the man pages")
		os.Exit(2)
	}
	root := newRoot()
	root.DisableAutoGenTag = true
	root.Long += "\n\n" + notes
	// The date is SOURCE_DATE_EPOCH's.
	header := &doc.GenManHeader{Section: "1", Source: "counterd", Manual: "counterd"}
	if err := doc.GenManTree(root, header, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
