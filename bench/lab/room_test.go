package lab

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tableOf makes a table out of files, as the kernel shows its own.
func tableOf(t *testing.T, limit, used, counters string) connTable {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"nf_conntrack_max": limit, "nf_conntrack_count": used, "stat": counters} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return connTable{dir, filepath.Join(dir, "stat")}
}

func TestATurnWaitsForRoomInTheFirewallsTable(t *testing.T) {
	const soon = 10 * time.Millisecond
	table := tableOf(t, "262144\n", "240000\n", "")
	if err := table.waitForRoom(t.Context(), 9_000, soon); err != nil {
		t.Errorf("there is room: %v", err)
	}
	if err := table.waitForRoom(t.Context(), 28_000, soon); !errors.Is(err, errUnavailable) {
		t.Errorf("the table would overflow: %v", err)
	}
	if err := table.waitForRoom(t.Context(), 300_000, time.Hour); !errors.Is(err, errUnavailable) {
		t.Errorf("no wait makes room for that: %v", err)
	}
	made := time.AfterFunc(50*time.Millisecond, func() {
		_ = os.WriteFile(filepath.Join(table.settings, "nf_conntrack_count"), []byte("5\n"), 0o644)
	})
	defer made.Stop()
	if err := table.waitForRoom(t.Context(), 28_000, time.Minute); err != nil {
		t.Errorf("room was made meanwhile: %v", err)
	}
	if err := (connTable{}).waitForRoom(t.Context(), 1<<30, soon); err != nil {
		t.Errorf("nothing is tracked: %v", err)
	}
}

func TestDroppedPacketsAreSummedOverProcessors(t *testing.T) {
	const counters = "entries  clashres found insert_failed drop early_drop\n" +
		"00040000  00000000 00000001 00000002 0000000a 00000003\n" +
		"00040000  00000000 00000001 00000002 00000010 00000003\n"
	if got := tableOf(t, "", "", counters).dropped(); got != 26 {
		t.Errorf("%d dropped, want 26", got)
	}
	if got := (connTable{}).dropped(); got != 0 {
		t.Errorf("%d dropped where nothing is tracked", got)
	}
}
