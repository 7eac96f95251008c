package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrLocked says that another process has a store open.
var ErrLocked = errors.New("another process has it open")

// Resolve follows symbolic links, so that a store is created where the link points
// to, and that directory is synced.
func Resolve(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return path, nil // to be created, or what it says
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("store %s: following the symbolic link: %w", path, err)
	}
	return target, nil
}

// OpenLocked opens and locks an existing file, and makes sure that it still is the
// one under that name.
func OpenLocked(d Disk, path string) (File, error) {
	for {
		f, err := d.Open(path, false)
		if err != nil {
			return nil, err
		}
		locked, err := f.Lock(false)
		if locked && f.Named(path, AnySize) {
			return f, nil
		}
		f.Close()
		switch {
		case err != nil:
			return nil, fmt.Errorf("locking: %w", err)
		case !locked:
			return nil, ErrLocked
		}
		// It was replaced or removed before we had the lock.
	}
}

// Make makes a whole, durable file under path, or nothing. fill must sync what it
// writes. The name appears last, and by link, which unlike rename never replaces.
// The error is fs.ErrExist if there is a file by now.
func Make(d Disk, path string, fill func(File) error) error {
	f, name, err := d.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	defer d.Remove(name)
	if err := fill(f); err != nil {
		return err
	}
	err = d.Link(name, path)
	if errors.Is(err, fs.ErrNotExist) {
		return fs.ErrExist // whoever was faster has cleared up
	}
	if err != nil {
		return err
	}
	return d.SyncDir(path)
}

// LeftoverPrefix begins the names of the files that Create makes beside path.
func LeftoverPrefix(path string) string { return "." + filepath.Base(path) + ".new-" }

// RemoveLeftovers removes what crashes while creating left beside path. Whoever is
// creating just now fails and finds that the store exists, as it would anyway.
func RemoveLeftovers(d Disk, path string) {
	dir := filepath.Dir(path)
	names, _ := d.Names(dir) // they do no harm
	for _, name := range names {
		if strings.HasPrefix(name, LeftoverPrefix(path)) {
			_ = d.Remove(filepath.Join(dir, name))
		}
	}
}
