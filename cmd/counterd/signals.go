package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// twice is how close together two signals are one: timeout(1) and some supervisors
// signal a process and then its group.
const twice = 20 * time.Millisecond

// untilSignal returns a context that ends with the first signal to stop. At the second
// it calls enough. A closing terminal sends SIGHUP twice, and so SIGHUPs after a SIGHUP
// are still the first; one that was ignored when the process began (nohup) stays
// ignored.
func untilSignal(ctx context.Context, enough func()) (context.Context, context.CancelFunc) {
	wanted := []os.Signal{syscall.SIGTERM, os.Interrupt}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, wanted...)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		first := <-signals
		cancel()
		for came := time.Now(); ; {
			s := <-signals
			again := s == syscall.SIGHUP && first == s
			if !again && time.Since(came) > twice {
				enough()
			}
		}
	}()
	return ctx, cancel
}
