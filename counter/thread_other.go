//go:build !linux

package counter

func scheduleNormally() {}
