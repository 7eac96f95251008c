// Package contender knows the programs that the lab compares: how each is
// started, loaded, asked for its count, and stopped.
//
// A contender is one file: it registers itself and says what it needs. What
// can't be had on a machine isn't dropped: Missing says why.
package contender
