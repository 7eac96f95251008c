package handover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

const (
	// retry is how often one that waits looks for the lock, and for a holder to ask.
	retry = 10 * time.Millisecond

	// look is how often it looks for the lock while a holder is there, which will
	// say when it lets go.
	look = 100 * time.Millisecond

	// quiet is how long it waits for a holder's answer before it says that it waits.
	quiet = time.Second
)

// RefusedError is why the holder of the store doesn't hand its socket over.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "cannot take over: " + e.Reason }

// Waiter is a process that wants a store which another has. It is used by one
// goroutine.
type Waiter struct {
	Store    string        // its path
	Listen   string        // as the configuration says it
	Own      bool          // it has a socket already, from systemd
	Patience time.Duration // until the holder is told to stop
	Log      *slog.Logger

	socket   socket // handed over; there need not be a holder any more
	holder   *holderConn
	said     bool
	since    time.Time
	deadline time.Time     // of patience
	left     time.Duration // of patience, while it stands still: the holder stops
}

// holderConn is the conversation with a holder.
type holderConn struct {
	c        *net.UnixConn
	news     chan news // closed with the connection
	agreed   bool
	stopping bool
}

// news is a reply with the socket that came with it.
type news struct {
	reply
	socket socket
}

// Wait calls try, which takes the store, until its error is not busy any more, and
// returns that. Meanwhile it asks whoever has the store for its socket. When patience
// or ctx ends it returns the last error of try; a *RefusedError at once.
func (w *Waiter) Wait(ctx context.Context, busy error, try func() error) error {
	defer w.hangUp()
	w.since = time.Now()
	w.deadline = w.since.Add(w.Patience)
	for {
		err := try()
		if !errors.Is(err, busy) || w.Patience == 0 || ctx.Err() != nil {
			return err
		}
		if !w.stops() && !time.Now().Before(w.deadline) {
			return err
		}
		if w.holder == nil {
			w.ask()
		}
		if err := w.pause(ctx); err != nil {
			return err
		}
	}
}

// Listener returns the socket that was handed over, or nil. The caller owns it.
func (w *Waiter) Listener() (*net.TCPListener, error) {
	s := w.socket
	w.socket = socket{}
	if !s.ok() {
		return nil, nil
	}
	return s.listener()
}

// Waited reports whether another process had the store.
func (w *Waiter) Waited() bool { return w.said }

// Close gives up the socket that was handed over, if Listener didn't take it.
func (w *Waiter) Close() {
	w.socket.close()
	w.socket = socket{}
}

func (w *Waiter) stops() bool { return w.holder != nil && w.holder.stopping }

// ask connects to the holder, if there is one to talk to.
func (w *Waiter) ask() {
	name, err := Name(w.Store)
	if err != nil {
		return
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return
	}
	if err := sameUser(c); err != nil {
		w.Log.Warn("the socket for handing over is not used", "socket", name, "err", err)
		c.Close()
		return
	}
	fd := -1
	if w.socket.ok() {
		fd = w.socket.number()
	}
	if send(c, request{Listen: w.Listen, Network: network(), Own: w.Own}, fd) != nil {
		c.Close()
		return
	}
	w.holder = &holderConn{c: c, news: make(chan news)}
	go w.holder.read()
}

// read passes on what the holder says, until it goes or is hung up.
func (h *holderConn) read() {
	defer close(h.news)
	in := messages{c: h.c}
	for {
		var n news
		err := in.next(&n.reply)
		n.socket = in.take()
		if err != nil {
			n.socket.close()
			return
		}
		h.news <- n
	}
}

// hangUp ends the conversation with the holder.
func (w *Waiter) hangUp() {
	if w.holder == nil {
		return
	}
	w.holder.c.Close()
	for n := range w.holder.news {
		n.socket.close()
	}
	if w.holder.stopping {
		w.deadline = time.Now().Add(w.left)
	}
	w.holder = nil
}

// pause waits for news or the time to try again.
func (w *Waiter) pause(ctx context.Context) error {
	var heard chan news
	wait := retry
	if w.holder != nil {
		heard, wait = w.holder.news, look
	}
	if until := time.Until(w.deadline); !w.stops() && until < wait {
		wait = max(until, 0)
	}
	if !w.said && time.Since(w.since) > quiet {
		w.say("the process that has it hands no socket over: there will be a gap")
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case n, ok := <-heard:
		if !ok {
			talked := w.holder.agreed || w.holder.stopping
			w.hangUp()
			if !talked { // too many wait, or it is about to end
				time.Sleep(retry)
			}
			return nil
		}
		return w.hear(n)
	}
	return nil
}

// hear takes in what the holder says.
func (w *Waiter) hear(n news) error {
	if n.Refused != "" {
		n.socket.close()
		return &RefusedError{n.Refused}
	}
	if n.socket.ok() {
		w.socket.close()
		w.socket = n.socket
	}
	if n.Stopping && !w.holder.stopping {
		w.left = max(time.Until(w.deadline), 0)
		w.holder.stopping = true
		w.Log.Info("the other process was told to stop")
		return nil
	}
	w.holder.agreed = true
	w.say("")
	return nil
}

// say logs once that this process waits.
func (w *Waiter) say(but string) {
	if w.said {
		return
	}
	w.said = true
	if but == "" {
		w.Log.Info("waiting for another process to let go", "of", "the store")
	} else {
		w.Log.Warn("waiting for another process to let go", "of", "the store", "but", but)
	}
}
