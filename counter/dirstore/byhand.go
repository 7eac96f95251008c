package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// Read returns the counters in the directory path, which no other process may have
// open. It changes nothing. The errors are those of Open; a missing store is an
// error.
func Read(path string) (*counter.Table, error) {
	path, err := disk.Resolve(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	table, err := show(disk.System, path)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return table, nil
}

func show(d disk.Disk, path string) (*counter.Table, error) {
	c := newCore(d, path, Options{MaxCounters: math.MaxInt64})
	f, err := d.Open(c.logPath(), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.whyNoLog(err)
	}
	if err != nil {
		return nil, notDirectory(err)
	}
	defer f.Close()
	locked, err := f.Lock(true)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	if !locked {
		return nil, ErrLocked
	}
	if c.log, err = openLog(f); err != nil {
		return nil, err
	}
	c.snapshotFile, err = d.Open(c.snapshotPath(), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.whyNoSnapshot(err)
	}
	if err != nil {
		return nil, err
	}
	defer c.snapshotFile.Close()
	_, err = c.read()
	return c.table, err
}

// Set gives each of the counters that the list names a count, in the directory path,
// which no other process may have open; it makes those that don't exist, and the
// store if there is none. Either all of it is done, and durable when Set returns, or
// nothing: also after a crash. Of a name that is there twice the last one counts.
//
// It never writes over a store that is damaged: what the list doesn't name would be
// forgotten. Move that directory away, and set the counters in a new one.
func Set(path string, list []counter.Named) error {
	return byHand(path, func(d disk.Disk, path string) error { return set(d, path, halfSize, list) })
}

// Drop forgets the counters with these names, in the directory path, which no other
// process may have open: the next hit on one begins at 1. Either all of it is done,
// and durable when Drop returns, or nothing. A name that there isn't is an error.
func Drop(path string, names []string) error {
	return byHand(path, func(d disk.Disk, path string) error { return drop(d, path, names) })
}

func byHand(path string, do func(disk.Disk, string) error) error {
	path, err := disk.Resolve(filepath.Clean(path))
	if err != nil {
		return err
	}
	if err := do(disk.System, path); err != nil {
		return fmt.Errorf("store %s: %w", path, err)
	}
	return nil
}

func set(d disk.Disk, path string, half int64, list []counter.Named) error {
	for _, n := range list {
		if n.Count < 0 || len(n.Name) > counter.MaxName {
			return fmt.Errorf("the counter %.40q can't be set to %d", n.Name, n.Count)
		}
	}
	c, err := openCore(d, path, half, Options{MaxCounters: math.MaxInt64})
	if err != nil {
		return err
	}
	defer c.close()
	for _, n := range list {
		if err := c.table.Set([]byte(n.Name), n.Count); err != nil {
			return fmt.Errorf("setting %.40q to %d: %w", n.Name, n.Count, err)
		}
	}
	return c.replace(c.table)
}

func drop(d disk.Disk, path string, names []string) error {
	if _, err := show(d, path); err != nil { // so that none is made
		return err
	}
	c, err := openCore(d, path, halfSize, Options{MaxCounters: math.MaxInt64})
	if err != nil {
		return err
	}
	defer c.close()
	gone := map[int]bool{}
	for _, name := range names {
		i, ok := c.table.Find([]byte(name))
		if !ok {
			return fmt.Errorf("there is no counter %.40q", name)
		}
		gone[i] = true
	}
	rest := counter.NewTable(math.MaxInt64)
	for i := range c.table.Len() {
		if gone[i] {
			continue
		}
		if err := rest.Set(c.table.Name(i), c.table.Count(i)); err != nil {
			return err
		}
	}
	return c.replace(rest)
}

// replace makes the counters of a table those of the store. What is in the log is
// before them: the next record belongs to a new generation, and follows from nothing
// that any copy of the store can have had.
func (c *core) replace(table *counter.Table) error {
	m := &image{id: c.log.id, at: c.log.at.next(), names: table.View, sum: table.Sum(), block: c.block}
	m.at.chain = rand.Uint32()
	for i := range table.Len() {
		m.counts = append(m.counts, table.Count(i))
	}
	_, err := c.replaceSnapshot(m, nil)
	return err
}
