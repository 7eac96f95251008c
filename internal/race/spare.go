package race

import "testing"

// Spare skips a test in which the race detector can find nothing that it doesn't find in
// another: one of a single goroutine, one more row of a table, one of a program that is
// built without it. Many take ten times as long under it. scripts/test.sh runs what is
// spared without the detector.
func Spare(t testing.TB) {
	t.Helper()
	if Enabled {
		t.Skip("spared by the race detector")
	}
}
