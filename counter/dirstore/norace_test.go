//go:build !race

package dirstore

const raceEnabled = false
