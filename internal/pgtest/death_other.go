//go:build !linux

package pgtest

import "syscall"

// dieWithParent is Linux's. Elsewhere a server may outlive a test that crashes.
func dieWithParent(*syscall.SysProcAttr) {}
