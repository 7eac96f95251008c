//go:build plantedbugs

package disk

import (
	"os"
	"syscall"
	"time"
)

// Bugs and faults on purpose, by which the crash tests prove that they would
// find them.
func init() {
	switch os.Getenv("COUNTERD_PLANTED_BUG") {
	case "early-answer":
		System = plantedDisk{OS{}, func(f *plantedFile) { f.late = make(chan write, 1<<16); go f.writeLater() }}
	case "no-sync":
		System = plantedDisk{OS{}, func(f *plantedFile) { f.never = true }}
	case "sync-fails":
		System = plantedDisk{OS{}, func(f *plantedFile) { f.left = 50 }}
	}
}

type plantedDisk struct {
	OS
	plant func(*plantedFile)
}

type plantedFile struct {
	File
	late  chan write
	never bool // Datasync does nothing
	left  int  // how many times Datasync still works; 0: for ever
}

type write struct {
	b  []byte
	at int64
}

func (d plantedDisk) Open(path string, readOnly bool) (File, error) {
	f, err := d.OS.Open(path, readOnly)
	if err != nil {
		return nil, err
	}
	p := &plantedFile{File: f}
	d.plant(p)
	return p, nil
}

// WriteAt with the early answer says that it is done and does it 20 ms later.
// (A kill leaves the page cache alone, so a skipped sync wouldn't show.)
func (f *plantedFile) WriteAt(b []byte, at int64) (int, error) {
	if f.late == nil {
		return f.File.WriteAt(b, at)
	}
	f.late <- write{append([]byte(nil), b...), at}
	return len(b), nil
}

func (f *plantedFile) writeLater() {
	for w := range f.late {
		time.Sleep(20 * time.Millisecond)
		for more := true; more; {
			f.File.WriteAt(w.b, w.at)
			select {
			case w = <-f.late:
			default:
				more = false
			}
		}
		f.File.Datasync()
	}
}

func (f *plantedFile) Datasync() error {
	if f.left == 1 {
		return os.NewSyscallError("fdatasync", syscall.EIO)
	}
	f.left = max(f.left-1, 0)
	if f.late != nil || f.never {
		return nil
	}
	return f.File.Datasync()
}
