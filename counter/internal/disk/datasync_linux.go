package disk

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var oneCore = runtime.NumCPU() == 1 // also where the process is pinned to one

// Datasync spares the inode's times, which fsync would write.
func (f *osFile) Datasync() error {
	if !oneCore || !f.aio.submit(f.fd) {
		return fdatasync(f.fd)
	}
	return f.aio.wait(syncPatience)
}

func fdatasync(fd int) error {
	for {
		err := unix.Fdatasync(fd)
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// asyncSync has the kernel's native AIO do the fdatasync (io_submit(2) with
// IOCB_CMD_FDSYNC, Linux 4.18): it is the same operation, but what we wait in is
// a call that we can bound. On one core that is cheaper: a goroutine that blocks
// in fdatasync may lose its processor to the runtime's monitor within 20 µs or so,
// and must queue for another one when the disk is done, with several switches of
// threads on the way. This one keeps it for as long as a good disk takes, and
// gives it up only after that. On several cores it gains nothing: the kernel's
// worker may have to wait for the core that the committer has already.
//
// The zero value is ready. It isn't safe for concurrent use.
type asyncSync struct {
	context uintptr // of io_setup; 0: none yet
	refused bool    // a filter of system calls, an old kernel, no such operation on this file
	control iocb
	submits *iocb
	event   ioEvent
	number  uint64 // of the sync, so that no event can be taken for another's
}

// syncPatience is for how long wait keeps its processor: many times what a good
// disk takes, and too short to be felt by whoever needs the processor.
const syncPatience = 2 * time.Millisecond

// iocb and ioEvent are the kernel's, of linux/aio_abi.h, on every architecture.
type iocb struct {
	data   uint64
	_      [2]uint32 // key, rw_flags
	opcode uint16
	_      int16 // priority
	fd     uint32
	_      [4]uint64 // buffer, bytes, offset, reserved
	_      [2]uint32 // flags, descriptor for events
}

type ioEvent struct {
	data, obj    uint64
	result, more int64
}

const cmdFdsync = 3 // IOCB_CMD_FDSYNC

// submit begins to sync. It returns false where that can't be had: nothing has
// begun then, and nothing will.
func (a *asyncSync) submit(fd int) bool {
	if a.refused {
		return false
	}
	if a.context == 0 && !a.setUp() {
		return false
	}
	a.number++
	a.control = iocb{data: a.number, opcode: cmdFdsync, fd: uint32(fd)}
	a.submits = &a.control
	// Raw, because it only queues: the kernel's worker does what may block.
	n, _, errno := unix.RawSyscall(unix.SYS_IO_SUBMIT, a.context, 1, uintptr(unsafe.Pointer(&a.submits)))
	a.refused = errno != 0 || n != 1
	return !a.refused
}

// setUp makes the context and sees that it can be waited for, for what has been
// submitted must be.
func (a *asyncSync) setUp() bool {
	const depth = 1
	_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, depth, uintptr(unsafe.Pointer(&a.context)), 0)
	if errno == 0 {
		var now unix.Timespec
		_, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, a.context, 0, 1,
			uintptr(unsafe.Pointer(&a.event)), uintptr(unsafe.Pointer(&now)), 0)
	}
	a.refused = errno != 0
	return !a.refused
}

// wait returns what came of the sync that was submitted. It keeps its processor
// for patience, and then waits without. The signal by which the runtime asks for
// a processor ends the first wait, too.
func (a *asyncSync) wait(patience time.Duration) error {
	bound := unix.NsecToTimespec(int64(patience))
	a.event = ioEvent{}
	n, _, errno := unix.RawSyscall6(unix.SYS_IO_GETEVENTS, a.context, 1, 1,
		uintptr(unsafe.Pointer(&a.event)), uintptr(unsafe.Pointer(&bound)), 0)
	for errno == unix.EINTR || errno == 0 && n == 0 {
		n, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, a.context, 1, 1,
			uintptr(unsafe.Pointer(&a.event)), 0, 0)
	}
	if errno != 0 {
		return os.NewSyscallError("io_getevents", errno)
	}
	if a.event.data != a.number {
		return fmt.Errorf("io_getevents: the outcome of sync %d came for sync %d", a.event.data, a.number)
	}
	return os.NewSyscallError("fdatasync", a.event.err())
}

// err is what fdatasync would have returned.
func (e ioEvent) err() error {
	switch {
	case e.result == 0:
		return nil
	case e.result > 0:
		return errors.New("an outcome that fdatasync doesn't have")
	}
	return unix.Errno(-e.result)
}

// close lets go of the context, which holds on to the file.
func (a *asyncSync) close() {
	if a.context != 0 {
		_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, a.context, 0, 0)
	}
	*a = asyncSync{refused: true}
}
