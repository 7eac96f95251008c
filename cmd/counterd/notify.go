package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd about a change of state, if it wants to know.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "err", err)
	}
}

// watchdog tells systemd that counterd is alive, twice per interval, until ctx
// ends. Alive means that alive returns: an answer, or an error in time. A store
// that is away is no reason to be killed, however long --store-timeout is; it
// comes back by itself.
func watchdog(ctx context.Context, log *slog.Logger, alive func(context.Context)) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog is off", "err", err)
		return
	}
	if interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			patience, cancel := context.WithTimeout(ctx, interval/4)
			alive(patience)
			cancel()
			notify(log, daemon.SdNotifyWatchdog)
		}
	}
}
