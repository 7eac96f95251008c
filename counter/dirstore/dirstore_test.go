package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
	"github.com/counterd/counterd/internal/race"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

var options = Options{MaxCounters: 1000, Sync: time.Hour}

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s interface{ Close() error }) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// mustAdd counts one hit on each name, or reads where the name begins with a
// question mark, and checks what is answered.
func mustAdd(t testing.TB, s *Store, wantSum int64, wants map[string]int64) {
	t.Helper()
	var deltas []counter.Delta
	for name := range wants {
		d := counter.Delta{Name: []byte(strings.TrimPrefix(name, "?")), Hits: 1}
		if strings.HasPrefix(name, "?") {
			d.Hits = 0
		}
		deltas = append(deltas, d)
	}
	sum, err := s.Add(bg, deltas)
	if err != nil || sum != wantSum {
		t.Fatalf("Add: %d, %v; want %d", sum, err, wantSum)
	}
	for _, d := range deltas {
		want := wants[string(d.Name)] + wants["?"+string(d.Name)]
		if d.Total != want || d.Refused {
			t.Fatalf("%q is %d (refused: %v), want %d", d.Name, d.Total, d.Refused, want)
		}
	}
}

func mustShow(t testing.TB, path string, want counts) {
	t.Helper()
	table, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(table); !maps.Equal(got, want) {
		t.Fatalf("it shows %v, want %v", got, want)
	}
}

func TestCountsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	octets := "/\x00\xff\n\"'%2f\t"
	s := mustOpen(t, path)
	mustAdd(t, s, 0, nil)
	mustAdd(t, s, 0, map[string]int64{"?/a": 0})
	mustAdd(t, s, 2, map[string]int64{"/a": 1, "/b": 1, "?/c": 0})
	mustAdd(t, s, 4, map[string]int64{"/a": 2, octets: 1})
	mustClose(t, s)
	mustShow(t, path, counts{"/a": 2, "/b": 1, octets: 1})
	s = mustOpen(t, path)
	mustAdd(t, s, 5, map[string]int64{"/a": 3, "?" + octets: 1})
	mustClose(t, s)
	if names, _ := os.ReadDir(path); len(names) != 2 {
		t.Errorf("the directory holds %v", names)
	}
}

func TestMaxCounters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	if err := Set(path, []counter.Named{{Name: "1", Count: 5}, {Name: "2", Count: 5}, {Name: "3", Count: 5}}); err != nil {
		t.Fatal(err)
	}
	for most, refused := range map[int64]bool{2: true, 3: true, 4: false} {
		s, err := Open(path, Options{MaxCounters: most})
		if err != nil {
			t.Fatal(err)
		}
		deltas := []counter.Delta{{Name: []byte("new"), Hits: 1}, {Name: []byte("1"), Hits: 1}, {Name: []byte("other")}}
		before := s.sum
		sum, err := s.Add(bg, deltas)
		want := before + 1
		if !refused {
			want++
		}
		if err != nil || sum != want || deltas[0].Refused != refused || deltas[1].Refused || deltas[2].Refused {
			t.Errorf("at most %d: %d, %v, %+v", most, sum, err, deltas)
		}
		if n, m := s.Names(); n > 4 || m != most {
			t.Errorf("Names() = %d, %d", n, m)
		}
		mustClose(t, s)
		if err := Set(path, []counter.Named{{Name: "1", Count: 5}}); err != nil {
			t.Fatal(err)
		}
		_ = Drop(path, []string{"new"})
	}
}

func TestNothingIsCountedPastTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	if err := Set(path, []counter.Named{{Name: "a", Count: math.MaxInt64 - 3}}); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, path)
	if _, err := s.Add(bg, []counter.Delta{{Name: []byte("b"), Hits: 2}, {Name: []byte("c"), Hits: 2}}); err != counter.ErrFull {
		t.Errorf("Add beyond the end: %v", err)
	}
	mustAdd(t, s, math.MaxInt64-3, map[string]int64{"?b": 0, "?a": math.MaxInt64 - 3})
	mustAdd(t, s, math.MaxInt64, map[string]int64{"a": math.MaxInt64 - 2, "b": 1, "c": 1})
	if _, err := s.Add(bg, []counter.Delta{{Name: []byte("b"), Hits: 1}}); err != counter.ErrFull {
		t.Errorf("Add at the end: %v", err)
	}
	mustClose(t, s)
	if err := Set(path, []counter.Named{{Name: "d", Count: 1}}); !errors.Is(err, counter.ErrFull) {
		t.Errorf("Set: %v", err)
	}
	mustShow(t, path, counts{"a": math.MaxInt64 - 2, "b": 1, "c": 1})
}

// A batch that is larger than a record takes several.
func TestLargeBatchTakesSeveralRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	s, err := Open(path, Options{MaxCounters: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var deltas []counter.Delta
	want := counts{}
	for i := range 5000 {
		name := fmt.Sprintf("%01000d", i)
		deltas = append(deltas, counter.Delta{Name: []byte(name), Hits: int64(i % 2)})
		if i%2 == 1 {
			want[name] = 1
		}
	}
	if sum, err := s.Add(bg, deltas); sum != 2500 || err != nil {
		t.Errorf("Add: %d, %v", sum, err)
	}
	mustClose(t, s)
	mustShow(t, path, want)
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	s := mustOpen(t, path)
	mustAdd(t, s, 1, map[string]int64{"a": 1})
	_, err := Open(path, options)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("second Open: %v", err)
	}
	_, readErr := Read(path)
	for _, err := range []error{readErr, Set(path, nil), Drop(path, []string{"a"})} {
		if !errors.Is(err, ErrLocked) {
			t.Errorf("by hand: %v", err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link+"/", options); !errors.Is(err, ErrLocked) {
		t.Errorf("Open by another name: %v", err)
	}
	mustAdd(t, s, 1, map[string]int64{"?a": 1})
	mustClose(t, s)
	mustClose(t, mustOpen(t, link))
}

func TestCreatedByManyAtOnce(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "c.d")
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for {
					s, err := Open(path, options)
					if errors.Is(err, ErrLocked) {
						time.Sleep(time.Millisecond)
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := s.Add(bg, []counter.Delta{{Name: []byte("a"), Hits: 1}}); err != nil {
						t.Error(err)
					}
					mustClose(t, s)
					return
				}
			})
		}
		wg.Wait()
		mustShow(t, path, counts{"a": 6})
	}
}

// What others may do to the store under a running server.
var misdeeds = map[string]func(path string) error{
	"directory moved":      func(path string) error { return os.Rename(path, path+".old") },
	"log removed":          func(path string) error { return os.Remove(path + "/log") },
	"log emptied":          func(path string) error { return os.Truncate(path+"/log", 0) },
	"log cut":              func(path string) error { return os.Truncate(path+"/log", logHeader+5) },
	"snapshot removed":     func(path string) error { return os.Remove(path + "/snapshot") },
	"snapshot emptied":     func(path string) error { return os.Truncate(path+"/snapshot", 0) },
	"snapshot put aside":   func(path string) error { return os.Rename(path+"/snapshot", path+"/snapshot.old") },
	"everything replaced":  func(path string) error { os.RemoveAll(path); return Set(path, nil) },
	"everything is a file": func(path string) error { os.RemoveAll(path); return os.WriteFile(path, nil, 0o600) },
}

func TestRemovedWhileRunning(t *testing.T) {
	for name, change := range misdeeds {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.d")
			s := mustOpen(t, path)
			mustAdd(t, s, 1, map[string]int64{"a": 1})
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			s.checked = time.Now().Add(-nameCheck)
			_, err := s.Add(bg, []counter.Delta{{Name: []byte("a"), Hits: 1}})
			if !errors.Is(err, counter.ErrLost) {
				t.Errorf("Add: %v, want ErrLost", err)
			}
			if _, again := s.Add(bg, nil); again != err {
				t.Errorf("Add after that: %v", again)
			}
			mustClose(t, s)
		})
	}
}

func TestRefusedDirectories(t *testing.T) {
	store := func(t *testing.T, path string) {
		s := mustOpen(t, path)
		mustAdd(t, s, 1, map[string]int64{"a": 1})
		mustClose(t, s)
	}
	write := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			os.Mkdir(path, 0o700)
			if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	later := func(name string, at, crc int) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			store(t, path)
			name := filepath.Join(path, name)
			b, _ := os.ReadFile(name)
			b[at] = 2
			sum := checksum(b[:crc])
			b[crc], b[crc+1], b[crc+2], b[crc+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		prepare func(*testing.T, string)
		err     error
		says    string
	}{
		"a file":             {func(t *testing.T, path string) { os.WriteFile(path, []byte("x"), 0o600) }, ErrForeign, "a file, not a directory"},
		"somebody's files":   {write("letter.txt", "x"), ErrForeign, `"letter.txt"`},
		"another log":        {write("log", strings.Repeat("x", 5000)), ErrForeign, "isn't one"},
		"an empty log":       {write("log", ""), ErrForeign, "empty"},
		"only a snapshot":    {write("snapshot", "x"), ErrDamaged, "the log is missing"},
		"no snapshot":        {func(t *testing.T, path string) { store(t, path); os.Remove(path + "/snapshot") }, ErrDamaged, "the snapshot is missing"},
		"a foreign snapshot": {func(t *testing.T, path string) { store(t, path); write("snapshot", strings.Repeat("x", 500))(t, path) }, ErrDamaged, "header"},
		"a cut log":          {func(t *testing.T, path string) { store(t, path); os.Truncate(path+"/log", 1<<20) }, ErrDamaged, "1048576 bytes"},
		"a later log":        {later("log", 8, 28), ErrForeign, "version 2"},
		"a later snapshot":   {later("snapshot", 8, 68), ErrForeign, "version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.d")
			test.prepare(t, path)
			before := fingerprint(t, path)
			_, openErr := Open(path, options)
			_, readErr := Read(path)
			setErr := Set(path, []counter.Named{{Name: "b", Count: 7}})
			for _, err := range []error{openErr, readErr, setErr} {
				if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v; want %q with %q", err, test.err, test.says)
				}
			}
			if after := fingerprint(t, path); after != before {
				t.Errorf("it was touched: %s, before %s", after, before)
			}
		})
	}
}

// fingerprint tells whether anything under path was changed.
func fingerprint(t *testing.T, path string) (s string) {
	t.Helper()
	if err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b, _ := os.ReadFile(name)
		s += fmt.Sprintf("%s %d %x; ", filepath.Base(name), len(b), checksum(b))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRefusedPaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none", "c.d"), filepath.Join(dir, "dangling"), "/dev/null"} {
		_, err := Open(path, options)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "c.d"), dir} {
		if _, err := Read(path); err == nil {
			t.Error("Read of a missing store")
		}
		if err := Drop(path, []string{"a"}); err == nil {
			t.Error("Drop in a missing store")
		}
	}
	for _, n := range []counter.Named{{Name: "a", Count: -1}, {Name: strings.Repeat("x", counter.MaxName+1)}} {
		if err := Set(filepath.Join(dir, "c.d"), []counter.Named{n}); err == nil {
			t.Errorf("Set took %.10q: %d", n.Name, n.Count)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// A directory that is there already, as a mounted volume, is taken if nothing of
// anybody's is in it; what crashes left is cleared away.
func TestEmptyDirectoryIsTaken(t *testing.T) {
	path := t.TempDir()
	leftover := filepath.Join(path, disk.LeftoverPrefix("snapshot")+"1")
	for _, name := range []string{leftover, filepath.Join(path, disk.LeftoverPrefix("log")+"2"), filepath.Join(path, ".gitignore")} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(path, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, path))
	if entries, _ := os.ReadDir(path); len(entries) != 4 {
		t.Errorf("there are %v", entries)
	}
}

func TestSetAndDropByHand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	if err := Set(path, []counter.Named{{Name: "a", Count: 5}, {Name: "b", Count: 0}, {Name: "c", Count: 1}, {Name: "a", Count: 6}}); err != nil {
		t.Fatal(err)
	}
	mustShow(t, path, counts{"a": 6, "b": 0, "c": 1})
	s := mustOpen(t, path)
	mustAdd(t, s, 9, map[string]int64{"b": 1, "a": 7})
	mustClose(t, s)
	if err := Drop(path, []string{"a", "nobody"}); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("Drop: %v", err)
	}
	mustShow(t, path, counts{"a": 7, "b": 1, "c": 1})
	if err := Drop(path, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, path)
	mustAdd(t, s, 3, map[string]int64{"a": 1})
	mustAdd(t, s, 4, map[string]int64{"c": 2})
	mustClose(t, s)
	mustShow(t, path, counts{"a": 1, "b": 1, "c": 2})
}

// roomless is the real disk, on which no snapshot can be made as long as that is
// wanted.
type roomless struct {
	disk.OS
	mu   *sync.Mutex
	full *bool
}

func newRoomless() roomless { return roomless{mu: new(sync.Mutex), full: new(bool)} }

func (d roomless) set(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.full = full
}

func (d roomless) Create(path string) (disk.File, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if *d.full {
		return nil, "", &os.PathError{Op: "open", Path: path, Err: syscall.ENOSPC}
	}
	return d.OS.Create(path)
}

// Without room for a snapshot counting goes on until the log is full; then it fails,
// nothing is lost, and with room it goes on by itself.
func TestNoRoom(t *testing.T) {
	d := newRoomless()
	path := filepath.Join(t.TempDir(), "c.d")
	var mu sync.Mutex
	failed, written := 0, 0
	o := Options{MaxCounters: 10, ObserveSnapshot: func(_ int64, _ time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed++
		} else {
			written++
		}
	}}
	c, err := openCore(d, path, 8*sectorSize, o)
	if err != nil {
		t.Fatal(err)
	}
	c.begin()
	s := newStore(c)
	d.set(true)
	deltas := []counter.Delta{{Name: []byte("a"), Hits: 1}}
	for i := range int64(15) { // and the empty record
		if sum, err := s.Add(bg, deltas); err != nil || sum != i+1 {
			t.Fatalf("commit %d: %d, %v", i, sum, err)
		}
	}
	_, err = s.Add(bg, deltas)
	if !errors.Is(err, ErrLogFull) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, counter.ErrLost) {
		t.Fatalf("Add to a full log: %v", err)
	}
	mustAdd(t, s, 15, map[string]int64{"?a": 15})
	if err := s.Failing(); !errors.Is(err, ErrLogFull) {
		t.Errorf("Failing() = %v", err)
	}
	d.set(false)
	for sum, end := int64(15), time.Now().Add(10*time.Second); sum < 100; {
		got, err := s.Add(bg, deltas)
		switch {
		case err == nil && got == sum+1:
			sum = got
		case errors.Is(err, ErrLogFull) && time.Now().Before(end):
			time.Sleep(10 * time.Millisecond)
		default:
			t.Fatal(got, err)
		}
	}
	if err := s.Failing(); err != nil {
		t.Errorf("Failing() = %v", err)
	}
	mustClose(t, s)
	mustShow(t, path, counts{"a": 100})
	if failed == 0 || written < 5 {
		t.Errorf("%d snapshots failed, %d were written", failed, written)
	}
}

// Many names, many rounds of a small log, snapshots in the background: with the race
// detector this looks for those who touch what isn't theirs.
func TestSnapshotsBesideCounting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	const names = 3000
	c, err := openCore(disk.System, path, 64*sectorSize, Options{MaxCounters: names})
	if err != nil {
		t.Fatal(err)
	}
	c.block = maxEntry + 4000
	c.begin()
	s := newStore(c)
	want := counts{}
	for i := range 400 {
		var deltas []counter.Delta
		for k := range 40 {
			name := fmt.Sprint((i*37 + k*k) % names)
			if _, ok := want[name+"!"]; ok {
				continue
			}
			deltas = append(deltas, counter.Delta{Name: []byte(name), Hits: 1})
		}
		deltas = unique(deltas)
		if _, err := s.Add(bg, deltas); err != nil {
			t.Fatal(err)
		}
		for _, d := range deltas {
			want[string(d.Name)]++
			if d.Total != want[string(d.Name)] {
				t.Fatalf("%q is %d, want %d", d.Name, d.Total, want[string(d.Name)])
			}
		}
		if i%50 == 0 {
			if list, err := s.List(bg, counter.Query{ByCount: true, Limit: 3}); err != nil || len(list) != 3 {
				t.Fatal(list, err)
			}
		}
	}
	mustClose(t, s)
	mustShow(t, path, want)
}

func unique(deltas []counter.Delta) (list []counter.Delta) {
	seen := map[string]bool{}
	for _, d := range deltas {
		if !seen[string(d.Name)] {
			seen[string(d.Name)] = true
			list = append(list, d)
		}
	}
	return list
}

func TestClosedStoreCountsNothing(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "c.d"))
	mustClose(t, s)
	if _, err := s.Add(bg, nil); err != counter.ErrClosed {
		t.Errorf("Add after Close: %v", err)
	}
}

func TestNoAllocations(t *testing.T) {
	race.Spare(t)
	s := mustOpen(t, filepath.Join(t.TempDir(), "c.d"))
	defer s.Close()
	deltas := make([]counter.Delta, 50)
	for i := range deltas {
		deltas[i] = counter.Delta{Name: fmt.Append(nil, "/", i), Hits: 1}
	}
	if n := testing.AllocsPerRun(100, func() { s.Add(bg, deltas) }); n != 0 {
		t.Errorf("%v allocations per commit", n)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := mustOpen(b, filepath.Join(b.TempDir(), "c.d"))
			defer s.Close()
			deltas := make([]counter.Delta, n)
			for i := range deltas {
				deltas[i] = counter.Delta{Name: fmt.Append(nil, "/", i), Hits: 1}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Add(bg, deltas); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
