package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

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

// needsAIO skips where the system has none at all. That it refuses what we ask
// of it would be our fault.
func needsAIO(t *testing.T) {
	t.Helper()
	var context uintptr
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&context)), 0); errno != 0 {
		t.Skipf("no AIO here: %v", errno)
	}
	_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, context, 0, 0)
}

// TestLayoutOfAIO holds the structures to the sizes that the kernel has on every
// architecture, and the operation to its number in linux/aio_abi.h.
func TestLayoutOfAIO(t *testing.T) {
	if a, b := unsafe.Sizeof(iocb{}), unsafe.Sizeof(ioEvent{}); a != 64 || b != 32 || cmdFdsync != 3 {
		t.Errorf("an iocb of %d bytes, an event of %d, the operation %d", a, b, cmdFdsync)
	}
}

// TestDatasyncWithAndWithoutAIO: by AIO, without it, and again after the file was closed.
func TestDatasyncWithAndWithoutAIO(t *testing.T) {
	for _, test := range []struct {
		name    string
		refused bool
	}{{"by AIO", false}, {"plain", true}} {
		t.Run(test.name, func(t *testing.T) {
			if !test.refused {
				needsAIO(t)
			}
			defer func(was bool) { oneCore = was }(oneCore)
			oneCore = true
			f := newOSFile(t)
			f.aio.refused = test.refused
			for i := range 3 {
				if _, err := f.WriteAt([]byte{byte(i)}, 0); err != nil {
					t.Fatal(err)
				}
				if err := f.Datasync(); err != nil {
					t.Fatal(err)
				}
			}
			if f.aio.refused != test.refused {
				t.Fatal("AIO was refused")
			}
			context := f.aio.context
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			left := asyncSync{context: context}
			if !test.refused && left.submit(newOSFile(t).fd) {
				t.Error("the context is still there")
			}
			if err := f.Datasync(); err == nil {
				t.Error("a closed file was synced")
			}
		})
	}
}

// TestSlowSyncIsWaitedFor: the disk takes longer than wait keeps its processor.
func TestSlowSyncIsWaitedFor(t *testing.T) {
	needsAIO(t)
	f := newOSFile(t)
	for i, patience := range []time.Duration{0, 1, time.Hour} {
		if !f.aio.submit(f.fd) {
			t.Fatal("AIO was refused")
		}
		if err := f.aio.wait(patience); err != nil {
			t.Errorf("patience %v: %v", patience, err)
		}
		if f.aio.event.data != uint64(i+1) {
			t.Errorf("patience %v: it returned without its event, %+v", patience, f.aio.event)
		}
	}
}

// TestAnothersEventIsNotOurs: the outcome of another sync is no outcome of this one.
func TestAnothersEventIsNotOurs(t *testing.T) {
	needsAIO(t)
	f := newOSFile(t)
	if !f.aio.submit(f.fd) {
		t.Fatal("AIO was refused")
	}
	f.aio.number++
	if err := f.aio.wait(0); err == nil {
		t.Error("it was taken for its own")
	}
	nowhere := asyncSync{context: 1}
	if err := nowhere.wait(0); err == nil {
		t.Error("a wait that failed was taken for a sync")
	}
}

// TestSignalEndsNoWait: a signal ends the call that waits, not the wait.
func TestSignalEndsNoWait(t *testing.T) {
	needsAIO(t)
	f := newOSFile(t)
	if !f.aio.setUp() {
		t.Fatal("AIO was refused")
	}
	f.aio.number = 1
	other := asyncSync{context: f.aio.context} // its first sync is number 1, too
	thread, done := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		done <- f.aio.wait(time.Hour)
	}()
	waits := <-thread
	time.Sleep(20 * time.Millisecond)
	if err := unix.Tgkill(unix.Getpid(), waits, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("it ended before its sync began: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if !other.submit(f.fd) {
		t.Fatal("AIO was refused")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFdatasyncJudgesWhatAIORefuses: what AIO refuses, fdatasync judges.
func TestFdatasyncJudgesWhatAIORefuses(t *testing.T) {
	defer func(was bool) { oneCore = was }(oneCore)
	oneCore = true
	f := newOSFile(t)
	sound := f.fd
	f.fd = 1 << 20
	if err := f.Datasync(); !errors.Is(err, unix.EBADF) {
		t.Errorf("no such descriptor: %v", err)
	}
	f.fd = sound
	if err := f.Datasync(); err != nil || !f.aio.refused {
		t.Errorf("after AIO was refused once: %v, refused: %v", err, f.aio.refused)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := &osFile{File: w, fd: int(w.Fd())}
	defer p.Close()
	if err := p.Datasync(); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a pipe: %v", err)
	}
}

func TestEventTellsItsError(t *testing.T) {
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
