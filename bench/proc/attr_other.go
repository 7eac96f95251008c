//go:build !linux

package proc

import (
	"errors"
	"syscall"
)

func attributes(name string) (*syscall.SysProcAttr, error) {
	if name != "" {
		return nil, errors.New("another user's programs are started on Linux only")
	}
	return &syscall.SysProcAttr{Setpgid: true}, nil
}

// killGroupAfter does nothing here: Stop kills the group when it must.
func killGroupAfter(int) {}
