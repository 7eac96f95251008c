package pgstore

import "testing"

// What follows a prefix is a matter of octets, not of code points.
func TestAfterPrefix(t *testing.T) {
	for prefix, want := range map[string]string{
		"/a":             "/b",
		"/caf\xc3":       "/caf\xc4",
		"/x\x80":         "/x\x81",
		"/x\xef\xbf\xbd": "/x\xef\xbf\xbe",
		"/x\xff\xff":     "/y",
		"\xff":           "",
	} {
		if got := after(prefix); got != want {
			t.Errorf("after(%q) = %q, want %q", prefix, got, want)
		}
	}
}
