package conformance

import "testing"

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
	t.Logf("%d rows", len(Rows))
}
