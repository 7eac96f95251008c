package admin

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/counterd/counterd/internal/patience"
)

// persistent is a listener whose Accept waits for better times whatever goes wrong,
// and fails only when the listener itself is gone: net/http would stop serving at
// most errors of accept(2).
type persistent struct {
	net.Listener
	log    *slog.Logger
	closed chan struct{}
	once   sync.Once
}

func newPersistent(ln net.Listener, log *slog.Logger) *persistent {
	return &persistent{Listener: ln, log: log, closed: make(chan struct{})}
}

func (l *persistent) Accept() (net.Conn, error) {
	for pause := new(patience.Pause); ; {
		c, err := l.Listener.Accept()
		if err == nil || patience.Gone(l.Listener, err) {
			return c, err
		}
		d := pause.Next(err)
		if d == 0 {
			continue
		}
		l.log.Warn("admin listener: accept failed, waiting", "err", err)
		select {
		case <-time.After(d):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// Close ends a wait of Accept, too.
func (l *persistent) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
