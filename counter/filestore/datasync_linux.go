package filestore

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync spares the inode's times, which fsync would write.
func (f *osFile) datasync() error {
	for {
		err := unix.Fdatasync(f.fd)
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
