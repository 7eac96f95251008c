package counter

import "errors"

var (
	// ErrFull says that the count has reached 2^63-1, or that the hits would
	// pass it. A store that returns it has added nothing.
	ErrFull = errors.New("the count is full")

	// ErrTimeout says that the store didn't settle a batch in time. Its hits may
	// or may not have been counted, never twice.
	ErrTimeout = errors.New("the store didn't answer in time")

	// ErrOverloaded says that too much waits for the store already. Nothing was
	// counted.
	ErrOverloaded = errors.New("too many hits wait for the store")

	// ErrClosed says that the counter or the store was closed before. Nothing
	// was counted.
	ErrClosed = errors.New("the counter is closed")

	// ErrLost says that the store can't be trusted any more and won't recover in
	// this process. Every such error is a *[LostError].
	ErrLost = errors.New("the store is lost")
)

// LostError is why a store was lost. errors.Is(err, ErrLost) holds for it.
type LostError struct {
	Err error
}

func (e *LostError) Error() string { return "the store is lost: " + e.Err.Error() }

func (e *LostError) Unwrap() []error { return []error{ErrLost, e.Err} }
