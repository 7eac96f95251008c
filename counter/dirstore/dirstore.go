package dirstore

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// Options configure Open.
type Options struct {
	// Sync is how often a Periodic writes and syncs, > 0. A Store doesn't look at it.
	Sync time.Duration

	// MaxCounters is how many counters there may be. Those that a directory holds are
	// kept, also if they are more.
	MaxCounters int64

	// Observe, if not nil, is called by a Periodic after each write and sync: how
	// many hits it made durable, how long it took, and its error. The batches are not
	// known here and always 1, so that it fits counter.Options.Observe.
	Observe func(hits int64, batches int, took time.Duration, err error)

	// ObserveSnapshot, if not nil, is called after each attempt to write a snapshot:
	// how large it is, how long it took, and why it failed. After a failure the next
	// attempt follows within seconds. It must not block for long.
	ObserveSnapshot func(size int64, took time.Duration, err error)
}

// Store commits what is asked for before it returns. But for Names, List and Each it
// isn't safe for concurrent use. It is a counter.Store and a counter.Lister.
type Store struct {
	*core
	*counter.TableLister
	pending []change // of the record that is being written
}

// change is a counter's count at some moment.
type change struct {
	number int
	count  int64
}

// Open opens the store in the directory path, and makes an empty one if there is
// none: also in a directory that holds nothing but hidden files and lost+found. When
// it returns, the counts that it found are durable, whatever the process before was
// doing when it ended.
//
// The errors are ErrLocked, ErrDamaged, ErrForeign or what the system says, and name
// the directory.
func Open(path string, o Options) (*Store, error) {
	c, err := openSystem(path, o)
	if err != nil {
		return nil, err
	}
	c.begin()
	return newStore(c), nil
}

func openSystem(path string, o Options) (*core, error) {
	path, err := disk.Resolve(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	c, err := openCore(disk.System, path, halfSize, o)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return c, nil
}

func newStore(c *core) *Store {
	return &Store{core: c, TableLister: c.table.Lister(&c.mu)}
}

// Add adds what the deltas ask for and returns the sum of all counters after it,
// once it is on disk: one write and one fdatasync, as long as it fits into one
// record of the log, of 1 MiB. It allocates only for new counters. Without deltas,
// and where their hits are 0, it reads, and does nothing on disk, since what is in
// memory is durable.
//
// counter.ErrFull: the sum would pass 2^63-1 if no delta were refused; nothing was
// added. ErrLogFull: there is no room; nothing was added, unless what is asked for
// takes several records: then some deltas may have been. While a snapshot that makes
// room is on its way, Add waits for it until ctx ends. The disk's own calls can't be
// interrupted. After any other failure every call fails with counter.ErrLost.
func (s *Store) Add(ctx context.Context, deltas []counter.Delta) (sum int64, err error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	rest := math.MaxInt64 - s.sum
	for i := range deltas {
		if deltas[i].Hits > rest {
			return 0, counter.ErrFull
		}
		rest -= deltas[i].Hits
	}
	for len(deltas) > 0 {
		n, size := portion(deltas)
		if err := s.add(ctx, deltas[:n], size); err != nil {
			return 0, err
		}
		deltas = deltas[n:]
	}
	return s.sum, nil
}

// portion is how many of the deltas go into one record, and how long that is at
// most. Which counters are known isn't looked at.
func portion(deltas []counter.Delta) (n int, size int64) {
	size = recordHeader
	hits := false
	for ; n < len(deltas); n++ {
		if deltas[n].Hits == 0 {
			continue
		}
		more := bytesOf(deltas[n].Name, false)
		if hits && size+more > maxBody {
			break
		}
		size, hits = size+more, true
	}
	if !hits {
		size = 0
	}
	return n, size
}

// add commits deltas as one record of at most size bytes; if that is 0, they only
// read.
func (s *Store) add(ctx context.Context, deltas []counter.Delta, size int64) error {
	to := s.log.at
	if size > 0 {
		var err error
		if to, err = s.room(ctx, size); err != nil {
			return err
		}
	}
	hits := s.make(deltas)
	if len(s.pending) == 0 {
		return nil
	}
	if err := s.append(to, hits); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pending {
		_ = s.table.Put(p.number, p.count) // the sum has room: Add has looked
	}
	return nil
}

// make makes the record, and the counters that are new, which count nothing before
// the record is on disk.
func (s *Store) make(deltas []counter.Delta) (hits int64) {
	s.log.begin()
	s.pending = s.pending[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range deltas {
		d := &deltas[k]
		d.Total, d.Refused = 0, false
		if d.Hits == 0 {
			if i, ok := s.table.Find(d.Name); ok {
				d.Total = s.table.Count(i)
			}
			continue
		}
		i, err := s.table.Make(d.Name)
		if err != nil {
			d.Refused = true
			continue
		}
		d.Total = s.table.Count(i) + d.Hits
		s.put(i, d.Total)
		s.pending = append(s.pending, change{i, d.Total})
		hits += d.Hits
	}
	return hits
}

// Failing is why a hit would fail now, while reads are answered; nil: as far as is
// known it wouldn't. It is safe for concurrent use.
func (s *Store) Failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// Close closes the store and lets other processes have it.
func (s *Store) Close() error {
	s.commit.Lock()
	if s.err == nil {
		s.err = counter.ErrClosed
	}
	s.commit.Unlock()
	return s.close()
}
