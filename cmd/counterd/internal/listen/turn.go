package listen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrNotNow says that another process listens or is about to.
var ErrNotNow = errors.New("another process serves it")

const (
	turnPoll = 5 * time.Millisecond

	// turnWait is how long the one that stops gives others to take the turn.
	// They try every turnPoll.
	turnWait = 200 * time.Millisecond
)

// The locks of a turn, each on one byte far behind the content of the file. Only
// open file descriptions hold them, so they end with the process.
const (
	lockTurn      = 1<<40 + iota // held by the one that listens, or will next
	lockListening                // held once it does
)

// Turn decides who, of several processes that want to serve the same store on
// the same port, listens. It is not safe for concurrent use.
type Turn struct{ f *os.File }

// NewTurn returns the turn of those that name the same existing file. It doesn't
// touch what is in the file.
func NewTurn(path string) (*Turn, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &Turn{f}, nil
}

// Claim takes the turn, or returns ErrNotNow.
func (t *Turn) Claim() error { return t.lock(lockTurn) }

// Listening tells the one that passes the turn that its successor listens.
func (t *Turn) Listening() error { return t.lock(lockListening) }

// Pass gives the turn away. It returns true once another process has taken it
// and listens, false if none wants it.
func (t *Turn) Pass(ctx context.Context) (bool, error) {
	for _, at := range []int64{lockListening, lockTurn} {
		if err := unlock(t.f, at); err != nil {
			return false, fmt.Errorf("pass the turn: %w", err)
		}
	}
	taken, err := t.await(ctx, turnWait, func() (bool, error) { return locked(t.f, lockTurn) })
	if !taken || err != nil {
		return false, err
	}
	// It listens at once, or fails to and lets go.
	gone := false
	listens, err := t.await(ctx, time.Minute, func() (bool, error) {
		listens, err := locked(t.f, lockListening)
		if listens || err != nil {
			return listens, err
		}
		taken, err := locked(t.f, lockTurn)
		gone = !taken
		return gone, err
	})
	return listens && !gone, err
}

// Close gives the turn back, if it is held.
func (t *Turn) Close() error { return t.f.Close() }

func (t *Turn) lock(at int64) error {
	ok, err := lock(t.f, at)
	switch {
	case err != nil:
		return fmt.Errorf("claim the turn: %w", err)
	case !ok:
		return ErrNotNow
	}
	return nil
}

// await asks until ok, an error, or the end of patience or ctx.
func (t *Turn) await(ctx context.Context, patience time.Duration, ask func() (bool, error)) (bool, error) {
	tick := time.NewTicker(turnPoll)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		ok, err := ask()
		if ok || err != nil || time.Now().After(end) {
			return ok, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
}
