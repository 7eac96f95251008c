//go:build !linux

package listen

import "errors"

// ReusePortWorks says that Open can't share a port: SO_REUSEPORT means something else
// on every other system.
const ReusePortWorks = false

func setReusePort(int) error { return errors.New("sharing a port works on Linux only") }
