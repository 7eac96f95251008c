package race

import "testing"

// Spare skips a test in which the race detector can find nothing that another does not
// find: one of a single goroutine, or one more row of a table. It would take ten times as
// long. scripts/test.sh runs what is spared without the detector.
func Spare(t testing.TB) {
	t.Helper()
	if Enabled {
		t.Skip("spared by the race detector")
	}
}
