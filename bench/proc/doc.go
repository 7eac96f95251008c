// Package proc starts the programs that the lab measures and reads what the
// kernel says about them: CPU time, memory, context switches, system calls.
//
// Everything is per process tree, so that a server that forks workers is
// charged for all of them. The sources are Linux's; elsewhere a server can be
// started and loaded, and its figures stay empty.
package proc
