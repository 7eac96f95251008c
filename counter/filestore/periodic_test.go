package filestore

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// gatedDisk is the real disk, but a datasync waits for the test, which says how
// it ends.
type gatedDisk struct {
	disk.OS
	syncs chan chan error
}

type gatedFile struct {
	disk.File
	syncs chan chan error
}

func (d gatedDisk) Open(path string, readOnly bool) (disk.File, error) {
	f, err := d.OS.Open(path, readOnly)
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, d.syncs}, nil
}

func (f *gatedFile) Datasync() error {
	result := make(chan error)
	f.syncs <- result
	if err := <-result; err != nil {
		return err
	}
	return f.File.Datasync()
}

func openGated(t *testing.T, interval time.Duration) (*Periodic, chan chan error, string) {
	t.Helper()
	d := gatedDisk{syncs: make(chan chan error)}
	path := filepath.Join(t.TempDir(), "c.db")
	s, err := open(d, path)
	if err != nil {
		t.Fatal(err)
	}
	return newPeriodic(s, Options{Sync: interval}), d.syncs, path
}

func TestPeriodicWritesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, syncs, path := openGated(t, time.Second)
		start := time.Now()
		mustAdd(t, p, 1, 1)
		(<-syncs) <- nil // the first hit after a pause at once
		if got := time.Since(start); got != 0 {
			t.Errorf("first sync after %v", got)
		}
		time.Sleep(300 * time.Millisecond)
		mustAdd(t, p, 1, 2)
		mustAdd(t, p, 1, 3)
		(<-syncs) <- nil
		if got := time.Since(start); got != time.Second {
			t.Errorf("second sync after %v", got)
		}
		select {
		case <-syncs:
			t.Error("a sync with nothing to write")
		case <-time.After(time.Hour):
		}
		mustAdd(t, p, 1, 4)
		slow := <-syncs
		start = time.Now()
		mustAdd(t, p, 1, 5)
		time.Sleep(700 * time.Millisecond)
		slow <- nil
		(<-syncs) <- nil
		if got := time.Since(start); got != time.Second {
			t.Errorf("after a slow sync the next one came %v later", got)
		}
		mustAdd(t, p, 1, 6)
		go func() { (<-syncs) <- nil }()
		mustClose(t, p) // writes the rest at once
		if v, err := Show(path); v != 6 || err != nil {
			t.Errorf("Show = %d, %v", v, err)
		}
	})
}

func TestPeriodicOverdue(t *testing.T) {
	for interval, limit := range map[time.Duration]time.Duration{
		100 * time.Millisecond: 5 * time.Second,
		time.Second:            10 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			p, syncs, _ := openGated(t, interval)
			mustAdd(t, p, 1, 1)
			stuck := <-syncs
			start := time.Now()
			time.Sleep(limit - interval - 1)
			mustAdd(t, p, 1, 2)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if v, err := p.add(1); err != ErrOverdue || v != 2 {
				t.Errorf("after %v: %d, %v; want ErrOverdue", time.Since(start), v, err)
			}
			mustAdd(t, p, 0, 2)
			stuck <- nil
			second := <-syncs // of the second hit, at once, since its interval has gone by
			mustAdd(t, p, 1, 3)
			second <- nil
			go func() { (<-syncs) <- nil }()
			mustClose(t, p)
		})
	}
}

func TestPeriodicLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, syncs, _ := openGated(t, time.Second)
		c := counter.NewInstant(p, counter.Options{})
		if _, err := hit(c); err != nil {
			t.Fatal(err)
		}
		(<-syncs) <- syscall.EIO
		<-c.Lost() // though nobody asks
		if err := c.Err(); !errors.Is(err, counter.ErrLost) || !errors.Is(err, syscall.EIO) {
			t.Errorf("Err() = %v", err)
		}
		if _, err := hit(c); !errors.Is(err, counter.ErrLost) {
			t.Errorf("Add: %v", err)
		}
		if _, err := c.ReadSum(bg); !errors.Is(err, counter.ErrLost) {
			t.Errorf("Read: %v", err)
		}
		if err := c.Close(bg); !errors.Is(err, counter.ErrLost) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestPeriodicLostAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, syncs, path := openGated(t, time.Hour)
		mustAdd(t, p, 1, 1)
		(<-syncs) <- nil
		mustAdd(t, p, 1, 2)
		go func() { (<-syncs) <- syscall.ENOSPC }()
		if err := p.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close: %v", err)
		}
		mustClose(t, mustOpen(t, path, 0)) // the lock is gone
	})
}

// Every hit that AddNow counted before Close is in the file, whatever runs
// beside it.
func TestPeriodicKeepsEveryHit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	counted := int64(0)
	for range 20 {
		p := mustOpen(t, path, time.Millisecond).(*Periodic)
		var hits atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if _, err := p.add(1); err != nil {
						return
					}
					hits.Add(1)
				}
			})
		}
		for n := int64(0); n < counted+1000; n, _ = p.add(0) {
			time.Sleep(time.Millisecond)
		}
		mustClose(t, p)
		wg.Wait()
		counted += hits.Load()
		if v, err := Show(path); v != counted || err != nil {
			t.Fatalf("Show = %d, %v; want %d", v, err, counted)
		}
	}
}

// With the clock of everybody: within a second of counting and one interval.
func TestPeriodicNoticesWhatIsDoneToItsFile(t *testing.T) {
	for name, change := range misdeeds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "c.db")
			p := mustOpen(t, path, time.Millisecond).(*Periodic)
			mustAdd(t, p, 1, 1)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
				_, err := p.add(1)
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

func TestPeriodicNoAllocations(t *testing.T) {
	p := mustOpen(t, filepath.Join(t.TempDir(), "c.db"), time.Hour).(*Periodic)
	defer p.Close()
	p.add(1)
	if n := testing.AllocsPerRun(1000, func() { p.add(1) }); n != 0 {
		t.Errorf("%v allocations per hit", n)
	}
}

func hit(c *counter.Counter) (int64, error) {
	var b counter.Batch
	p := b.Hit(nil)
	c.Submit(&b)
	return b.Number(p)
}
