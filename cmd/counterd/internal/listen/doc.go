// Package listen opens the counting listener: a new one, one that shares its
// port with another process, or one that systemd has opened.
//
// # A restart without a gap
//
// Two processes that listen on one port with SO_REUSEPORT form a group, and the
// kernel spreads new connections over it. That alone makes no restart without a
// gap: a newcomer that still waits for the store gets connections it can't
// answer, and a process that closes its listener resets what is queued there. So
// the one that serves tells the kernel where new connections go, by a program of
// one instruction (SO_ATTACH_REUSEPORT_CBPF):
//
//   - [Hold], once it serves: all come here. A newcomer can listen and wait, and
//     may also give up again, without having kept a client waiting.
//   - [Yield], when it stops: all go to the newcomer and queue there. What is
//     queued here is accepted and answered; then closing resets nobody.
//
// A program names a listener by its place in the group. The first to listen has
// place 0, the next 1; when a listener leaves, the last one takes its place. So
// the one that serves has place 0 and the newcomer place 1, from restart to
// restart, as long as only one newcomer waits at a time. If there is no
// newcomer, the kernel finds place 1 empty and spreads as usual.
//
// Linux only. Elsewhere SO_REUSEPORT means something else on every system.
package listen
