//go:build !linux

package listen

import "errors"

// ReusePortWorks tells whether Open can share a port and Hold and Yield work.
const ReusePortWorks = false

var errUnsupported = errors.New("sharing a port works on Linux only")

func setReusePort(int) error { return errUnsupported }

func attach(int, uint32) error { return errUnsupported }
