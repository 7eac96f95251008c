package listen

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReusePortWorks says that Open can share a port.
const ReusePortWorks = true

func setReusePort(fd int) error {
	return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}
