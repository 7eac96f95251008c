//go:build !linux

package load

import (
	"errors"
	"time"
)

// Send needs epoll.
func Send(string, float64, int, time.Duration) (Result, error) {
	return Result{}, errors.New("the open loop needs Linux")
}
