package engine

import (
	"fmt"
	"log/slog"
)

// logger gives gnet's messages to slog. What gnet calls information or a
// warning is of no use to an operator; its errors are.
type logger struct{ log *slog.Logger }

func (l logger) Debugf(format string, args ...any) { l.debug(format, args) }
func (l logger) Infof(format string, args ...any)  { l.debug(format, args) }
func (l logger) Warnf(format string, args ...any)  { l.debug(format, args) }
func (l logger) Errorf(format string, args ...any) { l.warn(format, args) }
func (l logger) Fatalf(format string, args ...any) { l.warn(format, args) }

func (l logger) debug(format string, args []any) {
	l.log.Debug("gnet: " + fmt.Sprintf(format, args...))
}

func (l logger) warn(format string, args []any) {
	l.log.Warn("gnet: " + fmt.Sprintf(format, args...))
}
