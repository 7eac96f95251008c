package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/race"
)

// fakeCounters is a store with many counters. As the real ones it loads all or none.
type fakeCounters struct {
	counts map[string]int64
	loads  int
	fails  error
}

func (f *fakeCounters) Each(_ context.Context, each func(counter.Named) error) error {
	for _, name := range slices.Sorted(maps.Keys(f.counts)) {
		if err := each(counter.Named{Name: name, Count: f.counts[name]}); err != nil {
			return err
		}
	}
	return f.fails
}

func (f *fakeCounters) Count(_ context.Context, name string) (int64, bool, error) {
	n, ok := f.counts[name]
	return n, ok, f.fails
}

func (f *fakeCounters) Load(_ context.Context, set []counter.Named) error {
	f.loads++
	if f.fails == nil {
		for _, n := range set {
			f.counts[n.Name] = n.Count
		}
	}
	return f.fails
}

func (f *fakeCounters) Drop(_ context.Context, names []string) error {
	for _, name := range names {
		if _, ok := f.counts[name]; !ok {
			return fmt.Errorf("there is no counter %q", name)
		}
	}
	for _, name := range names {
		delete(f.counts, name)
	}
	return f.fails
}

// withFake makes fake: a kind of store for the test.
func withFake(t *testing.T) *fakeCounters {
	t.Helper()
	f := &fakeCounters{counts: map[string]int64{}}
	kinds = append(slices.Clone(kinds), &kind{
		prefixes: []string{"fake:"},
		form:     "fake:",
		many:     true,
		check:    func(string) error { return nil },
		describe: asIs,
		counters: func(*config) counters { return f },
	})
	t.Cleanup(func() { kinds = kinds[:len(kinds)-1] })
	return f
}

// store runs a store command in this process.
func store(stdin string, args ...string) (stdout string, err error) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{"store"}, args...))
	err = root.Execute()
	return out.String(), err
}

func TestStoreCommandsOnManyCounters(t *testing.T) {
	f := withFake(t)
	step := func(want, stdin string, args ...string) {
		t.Helper()
		got, err := store(stdin, args...)
		if err != nil || got != want {
			t.Errorf("store %q: %q, %v; want %q", args, got, err, want)
		}
	}
	wrong := func(code int, says, stdin string, args ...string) {
		t.Helper()
		before := maps.Clone(f.counts)
		got, err := store(stdin, args...)
		var usage *usageError
		if err == nil || !strings.Contains(err.Error(), says) || errors.As(err, &usage) != (code == exitUsage) {
			t.Errorf("store %q: %v, want %q and code %d", args, err, says, code)
		}
		if got != "" || !maps.Equal(f.counts, before) {
			t.Errorf("store %q: it printed %q, and there are %v", args, got, f.counts)
		}
	}
	step("", "", "list", "fake:")
	step("0\n", "", "show", "fake:")
	wrong(exitUsage, "which counter", "", "set", "fake:", "5")
	step("", "", "set", "fake:", "/b", "5")
	step("", "7\t/a\n0\t/\xff'\"%2x{}\n9223372036854775000\t/"+strings.Repeat("x", 1023)+"\n", "load", "fake:")
	list := "7\t/a\n5\t/b\n9223372036854775000\t/" + strings.Repeat("x", 1023) + "\n0\t/\xff'\"%2x{}\n"
	step(list, "", "list", "fake:")
	step("7\n", "", "show", "fake:", "/a")
	step("9223372036854775012\n", "", "show", "fake:")
	wrong(exitFailed, `no counter "/c"`, "", "show", "fake:", "/c")
	wrong(exitFailed, `no counter "/c"`, "", "drop", "fake:", "/a", "/c")
	step("", "", "drop", "fake:", "/a", "/"+strings.Repeat("x", 1023))
	// What list prints, load takes, without a last line feed too.
	step("", strings.TrimSuffix(list, "\n"), "load", "fake:")
	step(list, "", "list", "fake:")
	step("", "", "load", "fake:")
	loads := f.loads

	wrong(exitFailed, `line 2: "/a" stands in line 1 already`, "1\t/a\n2\t/a\n", "load", "fake:")
	for line, says := range map[string]string{
		"":                                    "a tab and a name",
		"1":                                   "a tab and a name",
		"1 /a":                                "a tab and a name",
		"\t/a":                                "no number",
		"+1\t/a":                              "no number",
		"-1\t/a":                              "no number",
		"1.0\t/a":                             "no number",
		" 1\t/a":                              "no number",
		"9223372036854775808\t":               "no number",
		"1\t":                                 "begin with /",
		"1\ta":                                "begin with /",
		"1\t/a\t/b":                           `'\t'`,
		"1\t/a b":                             `' '`,
		"1\t/a\r":                             `'\r'`,
		"1\t/a\x00":                           `'\x00'`,
		"1\t/a\x7f":                           `'\x7f'`,
		"1\t/a#b":                             `'#'`,
		"1\t/a?b":                             `'?'`,
		"1\t/count":                           "reads are made",
		"1\t/count/":                          "reads are made",
		"1\t/count/x":                         "reads are made",
		"1\t/" + strings.Repeat("x", 1024):    "1025 bytes",
		"1\t/" + strings.Repeat("x", 100_000): "too long",
	} {
		wrong(exitFailed, "store load: line 2", "1\t/ok\n"+line+"\n3\t/ok\n", "load", "fake:")
		wrong(exitFailed, says, "1\t/ok\n"+line+"\n3\t/ok\n", "load", "fake:")
	}
	if f.loads != loads {
		t.Error("lines that can't be read came to the store")
	}
	step("", "1\t/counter\n2\t/coun\n3\t/Count/x\n", "load", "fake:")

	f.fails = errors.New("the disk is on fire")
	for _, args := range [][]string{{"show", "fake:", "/b"}, {"show", "fake:"}, {"set", "fake:", "/b", "1"}} {
		wrong(exitFailed, "on fire", "", args...)
	}
}

// TestMillionNamesAreLoaded: a million names in one go.
func TestMillionNamesAreLoaded(t *testing.T) {
	race.Spare(t)
	var in strings.Builder
	const n = 1_000_000
	for i := range n {
		fmt.Fprintf(&in, "%d\t/page/%020d\n", i, i)
	}
	all, err := readCounters(strings.NewReader(in.String()))
	if err != nil || len(all) != n || all[n-1] != (counter.Named{Name: fmt.Sprintf("/page/%020d", n-1), Count: n - 1}) {
		t.Errorf("%d counters, %v", len(all), err)
	}
	if all, err := readCounters(strings.NewReader(fmt.Sprintf("%d\t/a", int64(math.MaxInt64)))); err != nil || all[0].Count != math.MaxInt64 {
		t.Error(all, err)
	}
}

// TestStoreChangedByRootIsItsOwners: root changes a store of another user, or makes
// it in a directory of theirs, and the server of that user can still open all of it.
func TestStoreChangedByRootIsItsOwners(t *testing.T) {
	const user = 12345
	dir := t.TempDir()
	if os.Geteuid() != 0 || os.Chown(dir, user, user) != nil {
		t.Skip("only root can give files away")
	}
	many, one := "dir:"+filepath.Join(dir, "counterd.d"), "file:"+filepath.Join(dir, "counterd.db")
	for _, args := range [][]string{
		{"load", many}, {"set", many, "/b", "5"}, {"drop", many, "/a"},
		{"set", one, "5"}, {"set", one, "6"},
	} {
		if _, err := store("7\t/a\n", args...); err != nil {
			t.Errorf("store %q: %v", args, err)
		}
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != user || s.Gid != user {
			t.Errorf("%s belongs to %d:%d", path, s.Uid, s.Gid)
		}
		seen++
		return nil
	})
	if err != nil || seen != 5 { // dir, counterd.d, log, snapshot, counterd.db
		t.Errorf("%d files, %v", seen, err)
	}
}
