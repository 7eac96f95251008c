package dirstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// gatedDisk is the real disk, but once it is armed a datasync of the log waits for
// the test, which says how it ends.
type gatedDisk struct {
	roomless
	armed *atomic.Bool
	syncs chan chan error
}

type gatedFile struct {
	disk.File
	gatedDisk
}

func (d gatedDisk) Open(path string, readOnly bool) (disk.File, error) {
	f, err := d.OS.Open(path, readOnly)
	if err != nil || !strings.HasSuffix(path, "log") {
		return f, err
	}
	return &gatedFile{f, d}, nil
}

func (f *gatedFile) Datasync() error {
	if !f.armed.Load() {
		return f.File.Datasync()
	}
	result := make(chan error)
	f.syncs <- result
	if err := <-result; err != nil {
		return err
	}
	return f.File.Datasync()
}

// periodic is a Periodic as its user sees it.
type periodic struct{ *Periodic }

func (p periodic) add(name string, hits int64) (total, sum int64, err error) {
	p.Lock()
	defer p.Unlock()
	return p.AddNow([]byte(name), hits)
}

func (p periodic) must(t *testing.T, name string, hits, wantTotal, wantSum int64) {
	t.Helper()
	if total, sum, err := p.add(name, hits); total != wantTotal || sum != wantSum || err != nil {
		t.Fatalf("AddNow(%q, %d) = %d, %d, %v; want %d, %d", name, hits, total, sum, err, wantTotal, wantSum)
	}
}

func openGated(t *testing.T, interval time.Duration, half int64) (periodic, gatedDisk, string) {
	t.Helper()
	d := gatedDisk{newRoomless(), new(atomic.Bool), make(chan chan error)}
	path := filepath.Join(t.TempDir(), "c.d")
	c, err := openCore(d, path, half, Options{Sync: interval, MaxCounters: 1000})
	if err != nil {
		t.Fatal(err)
	}
	c.checked = time.Now().Add(1e6 * time.Hour)
	d.armed.Store(true)
	return periodic{newPeriodic(c)}, d, path
}

func TestPeriodicWritesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d, path := openGated(t, time.Second, halfSize)
		start := time.Now()
		p.must(t, "a", 1, 1, 1)
		(<-d.syncs) <- nil // the first hit after a pause at once
		if got := time.Since(start); got != 0 {
			t.Errorf("first sync after %v", got)
		}
		time.Sleep(300 * time.Millisecond)
		p.must(t, "b", 1, 1, 2)
		p.must(t, "a", 1, 2, 3)
		(<-d.syncs) <- nil
		if got := time.Since(start); got != time.Second {
			t.Errorf("second sync after %v", got)
		}
		select {
		case <-d.syncs:
			t.Error("a sync with nothing to write")
		case <-time.After(time.Hour):
		}
		p.must(t, "a", 1, 3, 4)
		slow := <-d.syncs
		start = time.Now()
		p.must(t, "a", 1, 4, 5)
		time.Sleep(700 * time.Millisecond)
		slow <- nil
		(<-d.syncs) <- nil
		if got := time.Since(start); got != time.Second {
			t.Errorf("after a slow sync the next one came %v later", got)
		}
		p.must(t, "a", 0, 4, 5)
		p.must(t, "c", 0, 0, 5)
		p.must(t, "b", 1, 2, 6)
		go func() { (<-d.syncs) <- nil }()
		mustClose(t, p) // writes the rest at once
		if _, _, err := p.add("a", 1); err != counter.ErrClosed {
			t.Errorf("AddNow after Close: %v", err)
		}
		mustShow(t, path, counts{"a": 4, "b": 2})
	})
}

// Where very many counters have changed nobody waits for the interval.
func TestPeriodicWritesMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	s, err := OpenPeriodic(path, Options{Sync: time.Hour, MaxCounters: 3 * manyChanges})
	if err != nil {
		t.Fatal(err)
	}
	p := periodic{s}
	want := counts{}
	for i := range 2 * manyChanges {
		name := fmt.Sprint(i)
		want[name] = 1
		if _, _, err := p.add(name, 1); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); p.left() > manyChanges; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d changes aren't written", p.left())
		}
	}
	mustClose(t, p)
	mustShow(t, path, want)
}

func TestPeriodicOverdue(t *testing.T) {
	for interval, limit := range map[time.Duration]time.Duration{
		100 * time.Millisecond: 5 * time.Second,
		time.Second:            10 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			p, d, _ := openGated(t, interval, halfSize)
			p.must(t, "a", 1, 1, 1)
			stuck := <-d.syncs
			start := time.Now()
			time.Sleep(limit - interval - 1)
			p.must(t, "b", 1, 1, 2)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if total, sum, err := p.add("b", 1); err != ErrOverdue || total != 1 || sum != 2 {
				t.Errorf("after %v: %d, %d, %v; want ErrOverdue", time.Since(start), total, sum, err)
			}
			if err := p.Failing(); err != ErrOverdue {
				t.Errorf("Failing() = %v", err)
			}
			p.must(t, "b", 0, 1, 2)
			stuck <- nil
			second := <-d.syncs // of the second hit, at once, since its interval has gone by
			p.must(t, "b", 1, 2, 3)
			second <- nil
			if err := p.Failing(); err != nil {
				t.Errorf("Failing() = %v", err)
			}
			go func() { (<-d.syncs) <- nil }()
			mustClose(t, p)
		})
	}
}

// A log that is full is as a disk that doesn't answer: counting goes on in memory
// until that is overdue, and begins again by itself.
func TestPeriodicNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d, path := openGated(t, time.Second, 2*sectorSize)
		d.armed.Store(false)
		d.set(true)
		refused := 0
		sum := int64(0)
		for start := time.Now(); time.Since(start) < 60*time.Second; time.Sleep(100 * time.Millisecond) {
			if time.Since(start) > 30*time.Second {
				d.set(false)
			}
			_, got, err := p.add("a", 1)
			switch {
			case err == nil && got == sum+1:
				sum = got
			case errors.Is(err, ErrOverdue) && errors.Is(err, ErrLogFull) && errors.Is(err, syscall.ENOSPC):
				refused++
			default:
				t.Fatalf("%d, %v", got, err)
			}
		}
		// From 10 s on, until at most a second after there is room.
		if refused < 100 || refused > 211 {
			t.Errorf("%d of 600 hits were refused", refused)
		}
		mustClose(t, p)
		mustShow(t, path, counts{"a": sum})
	})
}

func TestPeriodicLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d, _ := openGated(t, time.Second, halfSize)
		p.must(t, "a", 1, 1, 1)
		(<-d.syncs) <- syscall.EIO
		<-p.Lost() // though nobody asks
		for _, hits := range []int64{0, 1} {
			total, sum, err := p.add("a", hits)
			if !errors.Is(err, counter.ErrLost) || !errors.Is(err, syscall.EIO) || total != 1 || sum != 1 {
				t.Errorf("AddNow(%d): %d, %d, %v", hits, total, sum, err)
			}
		}
		if err := p.Close(); !errors.Is(err, counter.ErrLost) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestPeriodicLostAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d, path := openGated(t, time.Hour, halfSize)
		p.must(t, "a", 1, 1, 1)
		(<-d.syncs) <- nil
		p.must(t, "a", 1, 2, 2)
		go func() { (<-d.syncs) <- syscall.ENOSPC }()
		if err := p.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close: %v", err)
		}
		mustClose(t, mustOpen(t, path)) // the lock is gone
	})
}

func TestPeriodicNoticesWhatIsDoneToItsStore(t *testing.T) {
	for name, change := range misdeeds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "c.d")
			s, err := OpenPeriodic(path, Options{Sync: time.Millisecond, MaxCounters: 10})
			if err != nil {
				t.Fatal(err)
			}
			p := periodic{s}
			p.must(t, "a", 1, 1, 1)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				_, _, err := p.add("a", 1)
				if errors.Is(err, counter.ErrLost) {
					break
				}
				if err != nil || time.Now().After(end) {
					t.Fatalf("AddNow: %v, want ErrLost", err)
				}
			}
			<-p.Lost()
			if err := p.Close(); !errors.Is(err, counter.ErrLost) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// Every hit that AddNow counted before Close is in the store, whatever runs beside
// it, snapshots too.
func TestPeriodicKeepsEveryHit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.d")
	const names = 500
	var counted [names]atomic.Int64
	for range 10 {
		c, err := openCore(disk.System, path, 64*sectorSize, Options{Sync: time.Millisecond, MaxCounters: names})
		if err != nil {
			t.Fatal(err)
		}
		c.block = maxEntry + 1000
		p := periodic{newPeriodic(c)}
		var wg sync.WaitGroup
		for g := range 3 {
			wg.Go(func() {
				for i := g; ; i += 7 + i%3 {
					if _, _, err := p.add(fmt.Sprint(i%names), 1); err != nil {
						return
					}
					counted[i%names].Add(1)
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		mustClose(t, p)
		wg.Wait()
		want := counts{}
		for i := range counted {
			if n := counted[i].Load(); n > 0 {
				want[fmt.Sprint(i)] = n
			}
		}
		mustShow(t, path, want)
	}
}

func TestPeriodicNoAllocations(t *testing.T) {
	s, err := OpenPeriodic(filepath.Join(t.TempDir(), "c.d"), Options{Sync: time.Hour, MaxCounters: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	name := []byte("a")
	if n := testing.AllocsPerRun(1000, func() { s.Lock(); s.AddNow(name, 1); s.Unlock() }); n != 0 {
		t.Errorf("%v allocations per hit", n)
	}
}
