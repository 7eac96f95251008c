//go:build !linux

package main

func scheduleAsBatch() {}
