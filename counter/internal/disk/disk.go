// Package disk is what the stores that keep files ask of the operating system, and
// what they do alike: locking, creating, clearing up.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disk is what a store asks of the operating system. There are two: the real one,
// and one in the tests that tears, loses, reorders and lies.
type Disk interface {
	// Open opens an existing file. The error is fs.ErrNotExist if there is none.
	Open(path string, readOnly bool) (File, error)
	// Create makes a new file beside path under a name of its own. Made by root it
	// belongs to whom the file path belongs to, or, where there is none, its directory.
	Create(path string) (f File, name string, err error)
	// Link gives the file a second name. The error is fs.ErrExist if that exists.
	Link(name, path string) error
	// Rename gives the file the name path, which another may have had.
	Rename(name, path string) error
	Remove(name string) error
	// MakeDir makes a directory. The error is fs.ErrExist if the name exists. Made by
	// root it belongs to whom the directory that it is in belongs to.
	MakeDir(path string) error
	// Names lists the names in a directory, without it.
	Names(dir string) ([]string, error)
	// SyncDir makes the names in path's directory durable.
	SyncDir(path string) error
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Datasync makes what was written durable, where the size didn't change.
	Datasync() error
	// Sync makes everything about the file durable.
	Sync() error
	// Lock takes the file for this process alone, or for all readers. It doesn't
	// wait. The lock ends with Close and with the process.
	Lock(shared bool) (bool, error)
	// Named reports whether path still is this file, with that size unless it is
	// AnySize, as far as one can tell.
	Named(path string, size int64) bool
}

// AnySize is for File.Named.
const AnySize = -1

// OS is the real disk.
type OS struct{}

// System is what the stores use; tests of the whole program put faults in.
var System Disk = OS{}

func (OS) Open(path string, readOnly bool) (File, error) {
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	// O_NONBLOCK so that a named pipe can't hold the start up.
	f, err := os.OpenFile(path, mode|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd()), info: info}, nil
}

// withoutPath spares a message the second mention of the file.
func withoutPath(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

func (OS) Create(path string) (File, string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), LeftoverPrefix(path))
	if err != nil {
		return nil, "", err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, "", err
	}
	giveAway(f, path)
	return &osFile{File: f, fd: int(f.Fd()), info: info}, f.Name(), nil
}

func (OS) Link(name, path string) error   { return os.Link(name, path) }
func (OS) Rename(name, path string) error { return os.Rename(name, path) }
func (OS) Remove(name string) error       { return os.Remove(name) }

func (OS) MakeDir(path string) error {
	if err := os.Mkdir(path, 0o777); err != nil {
		return withoutPath(err)
	}
	// Not by its name, which may lead elsewhere by now.
	if f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err == nil {
		defer f.Close()
		giveAway(f, filepath.Dir(path))
	}
	return nil
}

func (OS) Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, withoutPath(err)
}

func (OS) SyncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = dir.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // some network filesystems: there is nothing to sync
	}
	return err
}

type osFile struct {
	*os.File
	fd   int
	info fs.FileInfo
	aio  asyncSync // for datasync, where the system has it
}

func (f *osFile) Close() error {
	f.aio.close()
	f.fd = -1 // the number may be another file's soon
	return f.File.Close()
}

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Lock(shared bool) (bool, error) {
	// flock and not fcntl: a lock of fcntl ends as soon as the process closes any
	// descriptor of the file.
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	for {
		err := unix.Flock(f.fd, how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		}
		return false, os.NewSyscallError("flock", err)
	}
}

func (f *osFile) Named(path string, size int64) bool {
	info, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR)
	}
	return os.SameFile(info, f.info) && (size == AnySize || info.Size() == size)
}
