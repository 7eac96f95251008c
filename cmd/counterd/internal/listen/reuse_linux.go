package listen

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ReusePortWorks tells whether Open can share a port and Yield works.
const ReusePortWorks = true

func setReusePort(fd int) error {
	return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// attach makes "return place" the program of fd's group.
func attach(fd int, place uint32) error {
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: place}}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF", err)
}

// lock takes the lock at a byte of f; false: another open file has it.
func lock(f *os.File, at int64) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, byteLock(unix.F_WRLCK, at))
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("fcntl F_OFD_SETLK", err)
}

func unlock(f *os.File, at int64) error {
	return os.NewSyscallError("fcntl F_OFD_SETLK", unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, byteLock(unix.F_UNLCK, at)))
}

// locked tells whether another open file has the lock.
func locked(f *os.File, at int64) (bool, error) {
	l := byteLock(unix.F_WRLCK, at)
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l)
	return l.Type != unix.F_UNLCK, os.NewSyscallError("fcntl F_OFD_GETLK", err)
}

func byteLock(kind int16, at int64) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
}
