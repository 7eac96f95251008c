package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// ErrLocked says that another process has the store open.
var ErrLocked = disk.ErrLocked

const pathCheck = time.Second

// Open opens the store in the file path, and creates it with the count 0 if
// there is none. When it returns, the count that it found is durable, whatever
// the process before was doing when it ended.
//
// The errors are ErrLocked, ErrDamaged, ErrForeign or what the system says, and
// name the file.
func Open(path string) (*Store, error) {
	path, err := disk.Resolve(path)
	if err != nil {
		return nil, err
	}
	return open(disk.System, path)
}

func open(d disk.Disk, path string) (*Store, error) {
	f, err := openOrCreate(d, path)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	s, err := start(d, f, path)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return s, nil
}

// openOrCreate returns the file, locked.
func openOrCreate(d disk.Disk, path string) (disk.File, error) {
	// Another process may create, replace or remove the file between our steps;
	// then they are taken again. That can't happen many times in a row.
	for range 100 {
		f, err := disk.OpenLocked(d, path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if err := create(d, path, 0); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("creating it: %w", err)
		}
	}
	return nil, errors.New("the file comes and goes")
}

// create makes a whole, durable store under path, or nothing. The error is
// fs.ErrExist if there is a file by now.
func create(d disk.Disk, path string, value int64) error {
	return disk.Make(d, path, func(f disk.File) error { return fill(f, record{0, value}) })
}

// fill writes both slots, r and its successor with the same value, and syncs.
// All blocks are written, so that a commit needs no more room.
func fill(f disk.File, r record) error {
	buf := make([]byte, fileSize)
	r.put(buf[r.offset():])
	r.sequence++
	r.put(buf[r.offset():])
	if _, err := f.WriteAt(buf, 0); err != nil {
		return err
	}
	return f.Sync()
}

// start reads a locked file and makes what it says durable.
func start(d disk.Disk, f disk.File, path string) (*Store, error) {
	content, err := read(f)
	if err != nil {
		return nil, err
	}
	last, err := parseFile(content)
	if err != nil {
		return nil, err
	}
	if err := rewrite(f, content, last); err != nil {
		return nil, err
	}
	// The process that created the file may have ended before it synced the name.
	if err := d.SyncDir(path); err != nil {
		return nil, fmt.Errorf("syncing the directory: %w", err)
	}
	disk.RemoveLeftovers(d, path)
	return &Store{path: path, file: f, last: last, checked: time.Now()}, nil
}

// rewrite makes both copies of both records durable. last is the newer one.
func rewrite(f disk.File, content []byte, last record) error {
	older, _ := parseSlot(content, 1-last.slot())
	for _, r := range []record{older, last} {
		buf := make([]byte, copiesSize)
		r.put(buf)
		if _, err := f.WriteAt(buf, r.offset()); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Store commits each addition before it returns. It isn't safe for concurrent
// use; a counter.Counter takes care of that.
type Store struct {
	path    string
	file    disk.File
	last    record // durable
	err     error  // why nothing more is done
	checked time.Time
	buf     [copiesSize]byte
}

// Add adds to the one counter there is, and returns the new total once it is on
// disk: one write, one fdatasync, no allocation. A read does nothing on disk, since
// the total is always durable. ctx is ignored: neither call can be interrupted.
//
// After a failure every call fails with counter.ErrLost.
func (s *Store) Add(_ context.Context, deltas []counter.Delta) (int64, error) {
	var hits int64
	for i := range deltas {
		hits += deltas[i].Hits
	}
	total, err := s.add(hits)
	for i := range deltas {
		deltas[i].Total = total
	}
	return total, err
}

func (s *Store) add(n int64) (int64, error) {
	if s.err != nil {
		return 0, s.err
	}
	if n > math.MaxInt64-s.last.value {
		return 0, counter.ErrFull
	}
	if n == 0 {
		return s.last.value, nil
	}
	next := record{s.last.sequence + 1, s.last.value + n}
	if err := s.write(next); err != nil {
		s.err = &counter.LostError{Err: fmt.Errorf("store %s: %w", s.path, err)}
		return 0, s.err
	}
	s.last = next
	return next.value, nil
}

func (s *Store) write(r record) error {
	r.put(s.buf[:])
	if _, err := s.file.WriteAt(s.buf[:], r.offset()); err != nil {
		return err
	}
	if err := s.file.Datasync(); err != nil {
		return err
	}
	return s.checkName()
}

// checkName notices, within a second of counting, that the file was removed,
// replaced or truncated under the running process: what is counted then would be
// gone with it. (A commit makes a truncated file longer, but not whole.)
func (s *Store) checkName() error {
	now := time.Now()
	if now.Sub(s.checked) < pathCheck {
		return nil
	}
	s.checked = now
	if !s.file.Named(s.path, fileSize) {
		return errors.New("the file was removed, replaced or truncated")
	}
	return nil
}

// Close closes the file and lets other processes have it.
func (s *Store) Close() error {
	if s.err == nil {
		s.err = counter.ErrClosed
	}
	return s.file.Close()
}
