package main

import (
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

func buildInfo() build {
	b := build{Version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
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
