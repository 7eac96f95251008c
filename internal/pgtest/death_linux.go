package pgtest

import "syscall"

// dieWithParent has the kernel end a child whose parent has ended.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
