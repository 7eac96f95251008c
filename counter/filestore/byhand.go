package filestore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/counterd/counterd/counter/internal/disk"
)

// Show returns the count in the file path, which no other process may have open.
// It changes nothing. The errors are those of Open; a missing file is an error.
func Show(path string) (int64, error) {
	path, err := disk.Resolve(path)
	if err != nil {
		return 0, err
	}
	value, err := show(disk.System, path)
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, err)
	}
	return value, nil
}

func show(d disk.Disk, path string) (int64, error) {
	f, err := d.Open(path, true)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	locked, err := f.Lock(true)
	if err != nil {
		return 0, fmt.Errorf("locking: %w", err)
	}
	if !locked {
		return 0, ErrLocked
	}
	content, err := read(f)
	if err != nil {
		return 0, err
	}
	last, err := parseFile(content)
	return last.value, err
}

// Set makes value the count in the file path, which no other process may have
// open, and creates the file if there is none. It is durable when Set returns; a
// crash in between leaves the count as it was or as it should be, and a damaged
// file damaged or repaired. It writes over a damaged or empty file, never over
// one that isn't a store.
func Set(path string, value int64) error {
	path, err := disk.Resolve(path)
	if err != nil {
		return err
	}
	if err := set(disk.System, path, value); err != nil {
		return fmt.Errorf("store %s: %w", path, err)
	}
	return nil
}

func set(d disk.Disk, path string, value int64) error {
	if value < 0 {
		return fmt.Errorf("the count can't be %d", value)
	}
	f, err := disk.OpenLocked(d, path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(d, path, value)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return overwrite(d, f, path, value)
}

// overwrite writes the two slots as two commits would. Even in a damaged file no
// step makes the older value of a good slot valid again: the first write goes
// into the slot that is bad or older, and with the higher sequence. Of an older
// one, both copies must be good by then: that write may be torn.
func overwrite(d disk.Disk, f disk.File, path string, value int64) error {
	content, err := read(f)
	if err != nil {
		return err
	}
	if err := recognise(content); err != nil && len(content) > 0 {
		return err
	}
	if last, err := parseFile(content); err == nil {
		if err := rewrite(f, content, last); err != nil {
			return err
		}
	}
	size := len(content)
	if len(content) < fileSize {
		content = append(content, make([]byte, fileSize-len(content))...)
	}
	r := record{newest(content).sequence, value}
	for range 2 {
		r.sequence++
		buf := make([]byte, slotSize)
		r.put(buf)
		if _, err := f.WriteAt(buf, r.offset()); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if size > fileSize {
		if err := f.Truncate(fileSize); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return d.SyncDir(path)
}

// newest returns the whole record with the highest sequence, if there is one.
func newest(content []byte) record {
	even, _ := parseSlot(content, 0)
	odd, _ := parseSlot(content, 1)
	if even.sequence > odd.sequence {
		return even
	}
	return odd
}
