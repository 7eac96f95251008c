package pgstore

import (
	"fmt"
	"slices"
	"testing"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/pgtest"
)

// manyOptions are testOptions for a counter of many names.
func manyOptions(t testing.TB) Options {
	o := testOptions(t)
	o.PerPath = true
	return o
}

// hit makes a delta: "name" is read, "name", 3 adds 3.
func deltas(nameAndHits ...any) (ds []counter.Delta) {
	for _, v := range nameAndHits {
		switch v := v.(type) {
		case string:
			ds = append(ds, counter.Delta{Name: []byte(v)})
		case int:
			ds[len(ds)-1].Hits = int64(v)
		}
	}
	return ds
}

// totals shows what a store said of deltas.
func totals(ds []counter.Delta) string {
	var said []string
	for _, d := range ds {
		if d.Refused {
			said = append(said, fmt.Sprintf("%s refused", d.Name))
			continue
		}
		said = append(said, fmt.Sprintf("%s %d", d.Name, d.Total))
	}
	return fmt.Sprint(said)
}

func mustAddMany(t testing.TB, s *Store, sum int64, want string, nameAndHits ...any) {
	t.Helper()
	ds := deltas(nameAndHits...)
	got, err := s.Add(bg, ds)
	if err != nil {
		t.Fatalf("%v: %v", nameAndHits, err)
	}
	if got != sum || totals(ds) != want {
		t.Fatalf("%v: sum %d, %s; want %d, %s", nameAndHits, got, totals(ds), sum, want)
	}
}

// bothManyForms runs a test with prepared statements and with plain SQL.
func TestManyNames(t *testing.T) { bothForms(t, testManyNames) }

func testManyNames(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	s := open(c.URL(), manyOptions(t))
	mustAddMany(t, s, 0, "[]")
	mustAddMany(t, s, 0, "[/a 0]", "/a")
	mustAddMany(t, s, 3, "[/b 2 /a 1]", "/b", 2, "/a", 1)
	mustAddMany(t, s, 7, "[/c 0 /a 5 /b 2]", "/c", "/a", 4, "/b")
	if got := c.Query("SELECT value || ' ' || names || ' ' || name_bytes FROM counterd_counter"); got != "7 2 4" {
		t.Errorf("sum, names, bytes: %s", got)
	}
	if n, most := s.Names(); n != 2 || most != DefaultMaxCounters {
		t.Errorf("%d of %d names", n, most)
	}
	o := manyOptions(t)
	o.Counter = "other"
	other := open(c.URL(), o)
	mustAddMany(t, other, 1, "[/a 1]", "/a", 1)
	mustAddMany(t, s, 7, "[/a 5]", "/a")

	var each []counter.Named
	if err := s.Each(bg, func(n counter.Named) error { each = append(each, n); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []counter.Named{{Name: "/a", Count: 5}, {Name: "/b", Count: 2}}; !slices.Equal(each, want) {
		t.Errorf("Each: %v", each)
	}
}
