// Package crashtest breaks a real counterd and checks every answer it gave.
//
// It builds the binary, loads it over sockets with hits, pipelined hits, hits
// with bodies and reads, kills it with SIGKILL at random moments, starts it again
// on the same port and file, and so on. Two checkers look at the histories:
//
//   - whole runs by the direct rule: no number twice, numbers in real-time
//     order, nothing shown that a crash took back, never more than was sent;
//   - windows of up to 2,000 operations by porcupine, as a register with
//     fetch-and-add and read.
//
// A small run is part of the tests. A long one:
//
//	go test ./internal/crashtest -timeout 2h -run Kill -crash.rounds=2000
//
// -crash.engines, -crash.conns and -crash.seed choose what is run. The seed
// replays the plan (the moments, the requests), not the scheduling.
//
// SIGKILL leaves the page cache alone, so a missing sync needs a power cut: on
// Linux, as root, the store is put on ext4 in an image, and the next server gets
// a copy of the image from the middle of the load.
//
// The checkers are checked, too: built with the tag plantedbugs, counterd has
// bugs that COUNTERD_PLANTED_BUG switches on, and each must be found.
package crashtest
