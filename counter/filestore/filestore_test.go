package filestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// a store of either kind, as the tests use it.
type counting interface {
	add(n int64) (int64, error)
	Close() error
}

// add is AddNow as others call it.
func (p *Periodic) add(n int64) (int64, error) {
	p.Lock()
	defer p.Unlock()
	total, _, err := p.AddNow(nil, n)
	return total, err
}

// mustOpen opens a Periodic where sync is not 0.
func mustOpen(t testing.TB, path string, sync time.Duration) counting {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if sync == 0 {
		return s
	}
	return newPeriodic(s, Options{Sync: sync})
}

func mustClose(t testing.TB, s counting) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAdd(t testing.TB, s counting, n, want int64) {
	t.Helper()
	if got, err := s.add(n); got != want || err != nil {
		t.Fatalf("Add(%d) = %d, %v; want %d", n, got, err, want)
	}
}

func TestCountSurvives(t *testing.T) {
	for _, o := range []time.Duration{0, time.Hour, time.Millisecond} {
		t.Run(o.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.db")
			want := int64(0)
			for n := range int64(6) {
				s := mustOpen(t, path, o)
				mustAdd(t, s, 0, want)
				want += n
				mustAdd(t, s, n, want)
				mustClose(t, s)
				if got, err := Show(path); got != want || err != nil {
					t.Fatalf("Show = %d, %v; want %d", got, err, want)
				}
			}
			if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
				t.Errorf("the directory holds %v", names)
			}
		})
	}
}

func TestNothingIsCountedPastTheEnd(t *testing.T) {
	for _, o := range []time.Duration{0, time.Hour} {
		path := filepath.Join(t.TempDir(), "c.db")
		if err := Set(path, math.MaxInt64-3); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, path, o)
		if _, err := s.add(4); err != counter.ErrFull {
			t.Errorf("Add beyond the end: %v", err)
		}
		mustAdd(t, s, 3, math.MaxInt64)
		if _, err := s.add(1); err != counter.ErrFull {
			t.Errorf("Add at the end: %v", err)
		}
		mustAdd(t, s, 0, math.MaxInt64)
		mustClose(t, s)
		if v, err := Show(path); v != math.MaxInt64 || err != nil {
			t.Errorf("Show = %d, %v", v, err)
		}
	}
}

// The layout is a promise to the files of yesterday.
func TestLayoutStaysAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	s := mustOpen(t, path, 0)
	mustAdd(t, s, 0x0102030405060708, 0x0102030405060708)
	mustClose(t, s)
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8192)
	odd := "counterd\x01\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 8)
	even := "counterd\x01\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00" + "\x08\x07\x06\x05\x04\x03\x02\x01"
	for at, r := range map[int]string{0: even, 512: even, 4096: odd, 4608: odd} {
		copy(want[at:], r)
		copy(want[at+28:at+32], got[at+28:at+32]) // the checksum is checked below
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the file is\n%q\nwant\n%q", got, want)
	}
	// CRC-32C of the check string of the catalogues of CRCs.
	b := make([]byte, copiesSize)
	record{sequence: 1, value: 0}.put(b)
	if sum := binary.LittleEndian.Uint32(b[28:]); sum != bitwiseCRC32C(b[:28]) || bitwiseCRC32C([]byte("123456789")) != 0xe3069283 {
		t.Errorf("checksum %#x is not CRC-32C", sum)
	}
}

func bitwiseCRC32C(b []byte) uint32 {
	crc := ^uint32(0)
	for _, x := range b {
		crc ^= uint32(x)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	return ^crc
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	s := mustOpen(t, path, 0)
	mustAdd(t, s, 5, 5)
	_, err := Open(path)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("second Open: %v", err)
	}
	if _, err := Show(path); !errors.Is(err, ErrLocked) {
		t.Errorf("Show: %v", err)
	}
	if err := Set(path, 9); !errors.Is(err, ErrLocked) {
		t.Errorf("Set: %v", err)
	}
	// By another name it is the same file.
	other := path + ".link"
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other); !errors.Is(err, ErrLocked) {
		t.Errorf("Open by another name: %v", err)
	}
	mustAdd(t, s, 0, 5)
	mustClose(t, s)
	mustClose(t, mustOpen(t, path, 0))
}

// openWhenFree opens the store as soon as nobody else has it open.
func openWhenFree(path string) (*Store, error) {
	for {
		s, err := Open(path)
		if !errors.Is(err, ErrLocked) {
			return s, err
		}
		time.Sleep(time.Millisecond)
	}
}

func TestStoreIsTakenOverWhenFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	s := mustOpen(t, path, 0)
	opened := make(chan error)
	var next *Store
	go func() {
		var err error
		next, err = openWhenFree(path)
		opened <- err
	}()
	mustAdd(t, s, 7, 7)
	select {
	case err := <-opened:
		t.Fatalf("opened while locked: %v", err)
	default:
	}
	mustAdd(t, s, 1, 8)
	mustClose(t, s)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	mustAdd(t, next, 0, 8)
	mustClose(t, next)
}

// Whoever waits for a file that is replaced meanwhile gets the new one.
func TestReplacedFileIsTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	s := mustOpen(t, path, 0)
	if err := Set(path+".new", 100); err != nil {
		t.Fatal(err)
	}
	waiting := &slowDisk{opened: make(chan struct{}), goOn: make(chan struct{})}
	opened := make(chan error)
	var next *Store
	go func() {
		var err error
		next, err = open(waiting, path)
		opened <- err
	}()
	<-waiting.opened // it holds the old file open now
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	close(waiting.goOn)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	mustAdd(t, next, 0, 100)
	mustClose(t, next)
}

// slowDisk tells when the first file was opened, and waits then.
type slowDisk struct {
	disk.OS
	opened, goOn chan struct{}
	once         sync.Once
}

func (d *slowDisk) Open(path string, readOnly bool) (disk.File, error) {
	f, err := d.OS.Open(path, readOnly)
	d.once.Do(func() {
		close(d.opened)
		<-d.goOn
	})
	return f, err
}

// What others may do to the file under a running server.
var misdeeds = map[string]func(path string) error{
	"removed":   os.Remove,
	"replaced":  func(path string) error { os.Remove(path); return Set(path, 100) },
	"moved":     func(path string) error { return os.Rename(path, path+".old") },
	"emptied":   func(path string) error { return os.Truncate(path, 0) },
	"truncated": func(path string) error { return os.Truncate(path, slotSize) },
	"longer":    func(path string) error { return os.Truncate(path, fileSize+1) },
}

func TestRemovedWhileRunning(t *testing.T) {
	for name, change := range misdeeds {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.db")
			s := mustOpen(t, path, 0).(*Store)
			mustAdd(t, s, 1, 1)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			s.checked = time.Now().Add(-pathCheck)
			_, err := s.add(1)
			if !errors.Is(err, counter.ErrLost) {
				t.Errorf("Add: %v, want ErrLost", err)
			}
			if _, again := s.add(0); again != err {
				t.Errorf("Add after that: %v", again)
			}
			mustClose(t, s)
		})
	}
}

func TestCreatedByManyAtOnce(t *testing.T) {
	for range 50 {
		dir := t.TempDir()
		path := filepath.Join(dir, "c.db")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := openWhenFree(path)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.add(1); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if v, err := Show(path); v != 8 || err != nil {
			t.Fatalf("Show = %d, %v; want 8", v, err)
		}
		mustClose(t, mustOpen(t, path, 0))
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Fatalf("left behind: %v", entries)
		}
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.db")
	ours := filepath.Join(dir, ".c.db.new-123")
	theirs := filepath.Join(dir, ".d.db.new-123")
	for _, name := range []string{ours, theirs} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpen(t, path, 0))
	if _, err := os.Stat(ours); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", ours, err)
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}

func TestRefusedFiles(t *testing.T) {
	good := make([]byte, fileSize)
	record{6, 41}.put(good)
	record{7, 42}.put(good[slotSize:])
	edit := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	flip := func(at ...int) []byte {
		return edit(func(b []byte) {
			for _, i := range at {
				b[i] ^= 1
			}
		})
	}
	tests := []struct {
		name    string
		content []byte
		err     error
		says    string
	}{
		{"empty", nil, ErrForeign, "empty"},
		{"text", []byte("hello"), ErrForeign, "not a counterd store"},
		{"zeros", make([]byte, fileSize), ErrForeign, "not a counterd store"},
		{"long text", bytes.Repeat([]byte("x"), 1<<20), ErrForeign, "not a counterd store"},
		{"cut", good[:5000], ErrDamaged, "5000 bytes"},
		{"one byte short", good[:fileSize-1], ErrDamaged, "8191 bytes"},
		{"only the magic", good[:8], ErrDamaged, "8 bytes"},
		{"one byte long", append(bytes.Clone(good), 0), ErrDamaged, "more than 8192"},
		{"newest slot rotten", flip(slotSize+20, slotSize+sectorSize+20), ErrDamaged, "slot 1 holds no whole record (slot 0 says 41)"},
		{"older slot rotten", flip(0, sectorSize), ErrDamaged, "slot 0 holds no whole record (slot 1 says 42)"},
		{"both slots rotten", flip(28, sectorSize+1, slotSize+12, slotSize+sectorSize+27), ErrDamaged, "neither"},
		{"slots exchanged", append(bytes.Clone(good[slotSize:]), good[:slotSize]...), ErrDamaged, "neither"},
		{"one slot twice", append(bytes.Clone(good[slotSize:]), good[slotSize:]...), ErrDamaged, "slot 0"},
		{"write missing", edit(func(b []byte) { record{4, 40}.put(b) }), ErrDamaged, "writes are missing"},
		{"same sequence differs", edit(func(b []byte) { record{8, 40}.put(b); record{5, 3}.put(b[slotSize:]) }), ErrDamaged, "writes are missing"},
		{"negative value", edit(func(b []byte) { record{8, -1}.put(b) }), ErrDamaged, "slot 0"},
		{"version 2", edit(func(b []byte) { later(b, 2) }), ErrForeign, "version 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.db")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Stat(path)
			_, openErr := Open(path)
			_, showErr := Show(path)
			for _, err := range []error{openErr, showErr} {
				if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %q; want %q with %q", err, test.err, test.says)
				}
			}
			after, _ := os.Stat(path)
			if got, _ := os.ReadFile(path); !bytes.Equal(got, test.content) || !os.SameFile(before, after) {
				t.Error("the file was touched")
			}

			err := Set(path, 7)
			if errors.Is(test.err, ErrForeign) && test.name != "empty" {
				if got, _ := os.ReadFile(path); err == nil || !bytes.Equal(got, test.content) {
					t.Errorf("Set wrote over a foreign file: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, path, 0)
			mustAdd(t, s, 1, 8)
			mustClose(t, s)
		})
	}
}

// later makes all records of a file those of a later version.
func later(b []byte, v uint32) {
	for _, at := range []int{0, sectorSize, slotSize, slotSize + sectorSize} {
		r := b[at : at+recordSize]
		binary.LittleEndian.PutUint32(r[8:], v)
		binary.LittleEndian.PutUint32(r[28:], bitwiseCRC32C(r[:28]))
	}
}

func TestRefusedPaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "none", "c.db"), filepath.Join(dir, "dangling"), "/dev/null"} {
		_, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
	if _, err := Show(filepath.Join(dir, "c.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Show of a missing file: %v", err)
	}
	if err := Set(filepath.Join(dir, "c.db"), -1); err == nil {
		t.Error("Set took a negative count")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestSymbolicLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.db"), filepath.Join(t.TempDir(), "link.db")
	leftover := filepath.Join(dir, ".real.db.new-1")
	if err := os.WriteFile(leftover, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Set(real, 3); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, link, 0)
	mustAdd(t, s, 1, 4)
	mustClose(t, s)
	if _, err := os.Stat(leftover); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file's directory was not looked after: %v", err)
	}
	if err := Set(link, 9); err != nil {
		t.Fatal(err)
	}
	if v, err := Show(real); v != 9 || err != nil {
		t.Errorf("Show = %d, %v", v, err)
	}
}

func TestSetKeepsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	for _, v := range []int64{5, 3, 0, math.MaxInt64, 4} {
		if err := Set(path, v); err != nil {
			t.Fatal(err)
		}
		if got, err := Show(path); got != v || err != nil {
			t.Fatalf("Show = %d, %v; want %d", got, err, v)
		}
	}
	before, _ := os.Stat(path)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Set(path, 8); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); !os.SameFile(before, after) || after.Mode().Perm() != 0o640 {
		t.Error("the file was replaced")
	}
}

func TestClosedStoreCountsNothing(t *testing.T) {
	for _, o := range []time.Duration{0, time.Millisecond} {
		s := mustOpen(t, filepath.Join(t.TempDir(), "c.db"), o)
		mustClose(t, s)
		if _, err := s.add(1); err != counter.ErrClosed {
			t.Errorf("Add after Close: %v", err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "c.db"), 0)
	defer s.Close()
	if n := testing.AllocsPerRun(100, func() { s.add(1) }); n != 0 {
		t.Errorf("%v allocations per commit", n)
	}
}

func BenchmarkCommit(b *testing.B) {
	path := filepath.Join(b.TempDir(), "c.db")
	s, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.add(1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBare is what the disk takes for the same bytes.
func BenchmarkBare(b *testing.B) {
	bare, _, err := disk.OS{}.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	bare.WriteAt(make([]byte, fileSize), 0)
	bare.Sync()
	buf := make([]byte, 32)
	i := byte(0)
	for b.Loop() {
		i++
		buf[0] = i
		if _, err := bare.WriteAt(buf, 0); err != nil {
			b.Fatal(err)
		}
		if err := bare.Datasync(); err != nil {
			b.Fatal(err)
		}
	}
}
