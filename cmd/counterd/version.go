package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// build says what this binary was built from.
type build struct {
	Version  string
	Revision string
	Modified bool
}

// stamp is the version where the build has no repository to tell it: the
// Dockerfile sets it.
var stamp string

func buildInfo() build {
	b := build{Version: cmp.Or(stamp, "(devel)")}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if stamp == "" && info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func version() string {
	b := buildInfo()
	text := fmt.Sprintf("counterd %s, %s, %s/%s", b.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if b.Revision != "" {
		text += ", commit " + b.Revision
	}
	if b.Modified {
		text += ", modified"
	}
	return text
}
