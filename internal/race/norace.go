//go:build !race

// Package race tells tests whether the race detector watches them: then they are
// slow and allocate more.
package race

// Enabled reports whether this program is built with the race detector.
const Enabled = false
