package main

import (
	"runtime/debug"
)

// version is what the toolchain knows of this build: the module's version when it was
// installed by one, the commit when it was built in a checkout, and Go's.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "of an unknown build"
	}
	text := info.Main.Version
	if text == "" || text == "(devel)" {
		text = "development build"
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = ", commit " + s.Value
		case "vcs.modified":
			if s.Value == "true" {
				changed = ", changed since"
			}
		}
	}
	return text + commit + changed + ", " + info.GoVersion + ", cdk " + pinned
}
