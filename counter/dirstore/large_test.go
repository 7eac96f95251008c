package dirstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
	"github.com/counterd/counterd/internal/race"
)

// A million names of 28 bytes: what they take on disk, how long opening takes, and
// how long a commit takes while a snapshot is written.
func TestMillionNames(t *testing.T) {
	race.Spare(t)
	if testing.Short() {
		t.Skip("a million names take their time")
	}
	const names = 1_000_000
	path := filepath.Join(t.TempDir(), "c.d")
	var list []counter.Named
	for i := range names {
		list = append(list, counter.Named{Name: fmt.Sprintf("/some/where/page-%011d", i), Count: 1})
	}
	start := time.Now()
	// With a smaller log than usual a snapshot comes sooner.
	if err := set(disk.System, path, 1<<20, list); err != nil {
		t.Fatal(err)
	}
	t.Logf("set in %v", time.Since(start))
	snapshot := size(t, path, "snapshot")
	if most := 2*snapshot + logHeader + 2*halfSize; most > 4*snapshot+64<<20 {
		t.Errorf("the snapshot takes %d bytes, all up to %d", snapshot, most)
	}
	o := Options{MaxCounters: names}
	written := make(chan time.Duration, 100)
	o.ObserveSnapshot = func(_ int64, took time.Duration, err error) {
		if err != nil {
			t.Error(err)
		}
		written <- took
	}
	s := open(t, path, o)

	// Half of the log, by records of many names, until a snapshot is written.
	r := rand.New(rand.NewPCG(1, 2))
	var calm, during []time.Duration
	var took time.Duration
	for took == 0 {
		deltas := make([]counter.Delta, 0, 500)
		for i := range 500 {
			deltas = append(deltas, counter.Delta{Name: []byte(list[i*2000+r.IntN(2000)].Name), Hits: 1})
		}
		start := time.Now()
		if _, err := s.Add(bg, deltas); err != nil {
			t.Fatal(err)
		}
		one := time.Since(start)
		if s.log.at.generation == s.kept {
			calm = append(calm, one)
		} else {
			during = append(during, one)
		}
		select {
		case took = <-written:
		default:
		}
	}
	t.Logf("a snapshot of %.1f MB in %v; commits of 500 names: calm p99 %v of %d, beside it p99 %v of %d",
		float64(snapshot)/1e6, took, p99(calm), len(calm), p99(during), len(during))
	sum := s.sum
	mustClose(t, s)

	worked := processor(t)
	s = open(t, path, o)
	opened := processor(t) - worked
	t.Logf("opened in %v of the processor", opened)
	if s.sum != sum || s.table.Len() != names {
		t.Errorf("%d counters with %d in all, want %d", s.table.Len(), s.sum, sum)
	}
	if opened > 3*time.Second {
		t.Error("that is too long")
	}
	var m runtime.MemStats
	list = nil
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("%.1f MB of memory are in use", float64(m.HeapAlloc)/1e6)
	mustClose(t, s)
}

// processor is the processor time that this process has used.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func open(t *testing.T, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func size(t *testing.T, path, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(path, name))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func p99(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)*99/100]
}
