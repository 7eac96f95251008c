package conformance

import (
	"os"
	"strings"
	"testing"
)

func TestRowsAreTold(t *testing.T) {
	if len(Rows) < 200 {
		t.Errorf("%d rows, want at least 200", len(Rows))
	}
	seen := make(map[string]bool)
	for _, row := range Rows {
		if row.Section == "" || row.Level == "" || row.Name == "" || row.Bytes == "" || len(row.Want) == 0 && !row.Open {
			t.Errorf("row %q lacks something", row.Name)
		}
		if seen[row.Name] {
			t.Errorf("two rows are named %q", row.Name)
		}
		seen[row.Name] = true
	}
	for name := range stdDiffers {
		if !seen[name] {
			t.Errorf("std differs in a row that isn't there: %q", name)
		}
	}
	if len(Rows) < 800 {
		t.Errorf("only %d rows", len(Rows))
	}
}

// TestDocsTellDifferences: docs/http.md says all that the std engine does
// otherwise.
func TestDocsTellDifferences(t *testing.T) {
	docs, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range stdGroups {
		if !strings.Contains(string(docs), group.note) {
			t.Errorf("docs/http.md does not say that net/http %s", group.note)
		}
	}
}
