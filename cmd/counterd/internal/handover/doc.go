// Package handover passes the counting socket from the process that has a store to
// the one that takes over: a restart without a gap.
//
// There is one listening socket, one queue of connections in the kernel, and any
// number of processes that have a descriptor of it. Only the one that has the store,
// the holder, accepts from it. The others wait for the store's lock and do nothing
// else, so they disturb nobody; and as long as one process has the socket, the kernel
// goes on taking connections.
//
// # What is said
//
// The holder listens on a Unix socket beside the store. A waiter connects and says
// which address it is to listen on, and in which network namespace it is; if it has
// the socket already, from a holder that died, it sends it along. The holder answers
// with the socket, or with the reason why not. Later it says when it was told to
// stop. That is all: the end of the connection means that the holder, or the waiter,
// is gone. Each message is a line of JSON; the socket travels beside it (SCM_RIGHTS).
// Both sides check that the other is of the same user.
//
// # Who may die when
//
//   - A waiter, at any time: the holder's socket is its own. Told to stop, the holder
//     goes on accepting only as long as somebody waits.
//   - The holder, at any time: the lock falls with it, a waiter gets it and has the
//     socket already. The other waiters ask the new holder again.
//   - The holder, and a process gets the lock that never asked it: the socket's
//     address is taken then, by those who wait. They ask the new holder, and so bring
//     it the socket.
//
// The name of the Unix socket belongs to the lock's holder: only it removes a stale
// one, and it removes its own before it lets go of the lock.
package handover
