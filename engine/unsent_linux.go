package engine

import "golang.org/x/sys/unix"

// unsent is how many bytes written to a socket its peer has not acknowledged.
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}
