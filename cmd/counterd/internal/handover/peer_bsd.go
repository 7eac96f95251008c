//go:build darwin || freebsd

package handover

import "golang.org/x/sys/unix"

// solLocal is SOL_LOCAL, 0 on both.
const solLocal = 0

// peer returns the user at the other end of a Unix socket.
func peer(fd int) (uid int, err error) {
	cred, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
