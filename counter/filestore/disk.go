package filestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is what the store asks of the operating system. There are two: the real
// one, and one in the tests that tears, loses, reorders and lies.
type disk interface {
	// open opens an existing file. The error is fs.ErrNotExist if there is none.
	open(path string, readOnly bool) (file, error)
	// create makes a new file beside path under a name of its own.
	create(path string) (f file, name string, err error)
	// link gives the file a second name. The error is fs.ErrExist if that exists.
	link(name, path string) error
	remove(name string) error
	// leftovers lists what create made beside path and nobody removed.
	leftovers(path string) ([]string, error)
	// syncDir makes the names in path's directory durable.
	syncDir(path string) error
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	size() (int64, error)
	truncate(size int64) error
	// datasync makes what was written durable, where the size didn't change.
	datasync() error
	// sync makes everything about the file durable.
	sync() error
	// lock takes the file for this process alone, or for all readers. It doesn't
	// wait. The lock ends with Close and with the process.
	lock(shared bool) (bool, error)
	// named reports whether path still is this file, with that size unless it is
	// anySize, as far as one can tell.
	named(path string, size int64) bool
}

const anySize = -1

type osDisk struct{}

// system is what Open uses; tests of the whole program put faults in.
var system disk = osDisk{}

func (osDisk) open(path string, readOnly bool) (file, error) {
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

const leftoverMark = ".new-"

func (osDisk) create(path string) (file, string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+leftoverMark)
	if err != nil {
		return nil, "", err
	}
	return &osFile{File: f, fd: int(f.Fd())}, f.Name(), nil
}

func (osDisk) link(name, path string) error { return os.Link(name, path) }
func (osDisk) remove(name string) error     { return os.Remove(name) }

func (osDisk) leftovers(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+filepath.Base(path)+leftoverMark) {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return names, err
}

func (osDisk) syncDir(path string) error {
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

func (f *osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) truncate(size int64) error { return f.Truncate(size) }
func (f *osFile) sync() error               { return f.Sync() }

func (f *osFile) lock(shared bool) (bool, error) {
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

func (f *osFile) named(path string, size int64) bool {
	info, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return os.SameFile(info, f.info) && (size == anySize || info.Size() == size)
}
