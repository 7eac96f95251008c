// Package listen opens the counting listener: a new one, one that shares its
// port with another process, or one that systemd has opened.
//
// # A restart without a gap
//
// Two processes that listen on one port with SO_REUSEPORT form a group, and the
// kernel spreads new connections over it. That alone makes no restart without a
// gap: a newcomer that has no store yet gets connections it can't answer, and a
// process that closes its listener resets what is queued there. So processes
// that serve the same store take turns:
//
//   - Only the one whose [Turn] it is listens. Others wait, and may give up
//     without having kept a client waiting.
//   - The one that stops passes the turn. As soon as its successor listens, it
//     steers new connections there ([Yield]), where they queue until the store is
//     free. What is queued here it accepts and answers; then closing resets
//     nobody.
//
// Steering is a program of one instruction (SO_ATTACH_REUSEPORT_CBPF) that names
// a listener by its place in the group: in order of listening, and when one
// leaves, the last takes its place. With turns there are never more than two, so
// the newcomer always has place 1. When the other has left, it has place 0, place
// 1 is empty, and the kernel gives it all connections.
//
// Linux only. Elsewhere SO_REUSEPORT means something else on every system.
package listen
