//go:build man

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// main, when built with the tag man, writes the man pages of every command to
// the directory that is its only argument. The release does so; counterd itself
// carries no generator.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "want: a directory for the man pages")
		os.Exit(2)
	}
	if err := writeMan(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeMan(dir string) error {
	root := newRoot()
	root.DisableAutoGenTag = true
	// The date is SOURCE_DATE_EPOCH's.
	header := &doc.GenManHeader{Section: "1", Source: "counterd", Manual: "counterd"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return err
	}
	// cobra prints --flag=DEFAULT, which says little where the default is a
	// sentence, and has no place for further sections.
	path := filepath.Join(dir, "counterd.1")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	above, rest, options := bytes.Cut(page, []byte("\n.SH OPTIONS"))
	_, below, example := bytes.Cut(rest, []byte("\n.SH EXAMPLE"))
	examples, seeAlso, also := bytes.Cut(below, []byte("\n.SH SEE ALSO"))
	if !options || !example || !also {
		return fmt.Errorf("%s lacks a section that ours belong beside", path)
	}
	page = slices.Concat(above, roff("# OPTIONS\n\n"+listed(root.Flags())),
		[]byte("\n.SH EXAMPLE"), examples, roff(manSections), []byte("\n.SH SEE ALSO"), seeAlso)
	return os.WriteFile(path, page, 0o644)
}

// roff renders sections of a manual page.
func roff(markdown string) []byte {
	// The first heading would be the page's title.
	page := md2man.Render([]byte("# COUNTERD 1\n\n" + markdown))
	_, sections, _ := bytes.Cut(page, []byte("\n.SH "))
	return append([]byte("\n.SH "), sections...)
}

// listed is a definition list of flags.
func listed(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" { // a switch
			fmt.Fprintf(&b, "**--%s**\n: %s\n\n", f.Name, plain(f.Usage))
			return
		}
		fmt.Fprintf(&b, "**--%s**=_%s_\n: %s. Default: %s.\n\n", f.Name, f.Value.Type(), plain(f.Usage), plain(f.DefValue))
	})
	return b.String()
}

// plain keeps markdown from reading [VARIABLE] as a link and * as emphasis.
func plain(text string) string {
	return strings.NewReplacer("[", "\\[", "]", "\\]", "*", "\\*", "_", "\\_").Replace(text)
}

// manSections are what a manual page of a server is expected to say, and cobra
// doesn't know.
//
//go:embed man.md
var manSections string
