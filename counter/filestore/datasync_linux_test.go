package filestore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newOSFile(t *testing.T) *osFile {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	o := &osFile{File: f, fd: int(f.Fd())}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// TestDatasync: by AIO, without it, and again after the file was closed.
func TestDatasync(t *testing.T) {
	for _, test := range []struct {
		name    string
		refused bool
	}{{"by AIO", false}, {"plain", true}} {
		t.Run(test.name, func(t *testing.T) {
			f := newOSFile(t)
			f.aio.refused = test.refused
			for i := range 3 {
				if _, err := f.WriteAt([]byte{byte(i)}, 0); err != nil {
					t.Fatal(err)
				}
				if err := f.datasync(); err != nil {
					t.Fatal(err)
				}
			}
			if f.aio.refused != test.refused {
				t.Skip("this system refuses AIO")
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := f.datasync(); err == nil {
				t.Error("a closed file was synced")
			}
		})
	}
}

// TestSlowSync: the disk takes longer than wait keeps its processor.
func TestSlowSync(t *testing.T) {
	f := newOSFile(t)
	for _, patience := range []time.Duration{0, 1, time.Hour} {
		if !f.aio.submit(f.fd) {
			t.Skip("this system refuses AIO")
		}
		if err := f.aio.wait(patience); err != nil {
			t.Errorf("patience %v: %v", patience, err)
		}
	}
}

// TestDatasyncFails: what AIO refuses, fdatasync judges.
func TestDatasyncFails(t *testing.T) {
	f := newOSFile(t)
	sound := f.fd
	f.fd = 1 << 20
	if err := f.datasync(); !errors.Is(err, unix.EBADF) {
		t.Errorf("no such descriptor: %v", err)
	}
	f.fd = sound
	if err := f.datasync(); err != nil || !f.aio.refused {
		t.Errorf("after AIO was refused once: %v, refused: %v", err, f.aio.refused)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &osFile{File: w, fd: int(w.Fd())}
	defer p.Close()
	if err := p.datasync(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a pipe: %v", err)
	}
}

func TestEvent(t *testing.T) {
	for _, test := range []struct {
		result int64
		is     error
	}{
		{-int64(unix.EIO), unix.EIO},
		{-int64(unix.ENOSPC), unix.ENOSPC},
		{-int64(unix.EACCES), fs.ErrPermission},
	} {
		if err := (ioEvent{result: test.result}).err(); !errors.Is(err, test.is) {
			t.Errorf("%d: %v", test.result, err)
		}
	}
	if err := (ioEvent{}).err(); err != nil {
		t.Error(err)
	}
	if err := (ioEvent{result: 1}).err(); err == nil {
		t.Error("1 is no outcome of a sync")
	}
}
