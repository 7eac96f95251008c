package main

import (
	"slices"
	"testing"
)

// TestHealthLooksUpNoName: no name is looked up for an address that means this machine.
func TestHealthLooksUpNoName(t *testing.T) {
	for addr, want := range map[string][]string{
		":1":             {"127.0.0.1:1", "[::1]:1"},
		"[::]:1":         {"127.0.0.1:1", "[::1]:1"},
		"localhost:1":    {"127.0.0.1:1", "[::1]:1"},
		"0.0.0.0:1":      {"127.0.0.1:1"},
		"127.0.0.1:1":    {"127.0.0.1:1"},
		"[::1]:1":        {"[::1]:1"},
		"192.0.2.1:http": {"192.0.2.1:http"},
		"host:1":         {"host:1"},
	} {
		if got := reachable(addr); !slices.Equal(got, want) {
			t.Errorf("reachable(%s) = %v, want %v", addr, got, want)
		}
	}
}
