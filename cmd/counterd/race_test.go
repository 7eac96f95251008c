//go:build race

package main

// raceFlag builds the binary under test as the tests themselves were built.
const raceFlag = "-race"
