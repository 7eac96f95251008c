//go:build !linux

package listen

import (
	"errors"
	"os"
)

// ReusePortWorks tells whether Open can share a port and Yield works.
const ReusePortWorks = false

var errUnsupported = errors.New("sharing a port works on Linux only")

func setReusePort(int) error { return errUnsupported }

func attach(int, uint32) error { return errUnsupported }

func lock(*os.File, int64) (bool, error) { return false, errUnsupported }

func unlock(*os.File, int64) error { return errUnsupported }

func locked(*os.File, int64) (bool, error) { return false, errUnsupported }
