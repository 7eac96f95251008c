// Package crashtest breaks a real counterd and checks every answer it gave.
//
// It builds the binary, loads it over sockets with hits, pipelined hits, hits
// with bodies and reads, kills it with SIGKILL at random moments, starts it again
// on the same port and store, and so on. All of it goes for --per=all, where a file
// holds one counter, and for --per=path, where a directory holds a thousand and a
// pipeline mixes their hits with reads of them and of their sum. Three checkers look
// at the histories:
//
//   - of each counter, whole runs by the direct rule: no number twice, numbers in
//     real-time order, nothing shown that a crash took back, never more than was
//     sent;
//   - of each counter, windows of up to 2,000 operations by porcupine, as a register
//     with fetch-and-add and read;
//   - of each life, the reads of the sum against all counters, by a check that is as
//     exact as porcupine's and doesn't search. Between two lives the sum must be
//     that of its parts.
//
// A small run is part of the tests. A long one:
//
//	go test ./internal/crashtest -timeout 2h -run Kill -crash.rounds=2000
//
// -crash.engines, -crash.per, -crash.conns and -crash.seed choose what is run. The seed
// replays the plan (the moments, the requests), not the scheduling.
//
// SIGKILL leaves the page cache alone, so a missing sync needs a power cut: on
// Linux, as root, the store is put on ext4 in an image, and the next server gets
// a copy of the image from the middle of the load.
//
// The checkers are checked, too: built with the tag plantedbugs, counterd has
// bugs that COUNTERD_PLANTED_BUG switches on, and each must be found.
package crashtest
