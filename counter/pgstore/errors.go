package pgstore

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/counter"
)

// errUnknown: no later attempt can find out whether the batch was counted.
var errUnknown = errors.New("whether the batch was counted can't be known, since the replica's bookkeeping row has gone from counterd_replica")

// unknownOutcome says of an error that the server reported whether the
// transaction may have been committed all the same. Mostly it was rolled back,
// surely.
func unknownOutcome(code string) bool {
	switch code {
	case "40003": // statement_completion_unknown
		return true
	}
	switch class(code) {
	case "08", // connection exception: a pooler lost its server
		"57", // operator intervention: shutdown, also of a pooler
		"58", // system error
		"XX": // internal error
		return code != "57014" // query_canceled: before the commit
	}
	return false
}

// transient says whether an error that the server reported can go away by
// itself, within seconds.
func transient(code string) bool {
	switch code {
	case "25006", // read_only_sql_transaction: this was the primary
		"25P04", // transaction_timeout
		"55P03", // lock_not_available
		"55000": // object_not_in_prerequisite_state: in recovery
		return true
	}
	switch class(code) {
	case "08", // connection exception
		"40", // transaction rollback: serialization failure, deadlock
		"53", // insufficient resources: too many connections, disk full
		"57", // operator intervention: shutdown, starting up, cancelled
		"58", // system error
		"XX": // internal error
		return true
	}
	return false
}

// errUnprepared: the batch must go out in plain SQL. It was not counted.
var errUnprepared = errors.New("the session's prepared statements have gone: there is a pooler in between")

// unprepared says of an error that the server reported that EXECUTE, not the
// statement, failed.
func unprepared(code string) bool {
	switch code {
	case "26000", // invalid_sql_statement_name
		"0A000": // feature_not_supported
		return true
	}
	return false
}

// useless says that the session that got this error is of no more use: the
// server is no primary any more, or a pooler has lost it.
func useless(code string) bool {
	return code == "25006" || code == "55000" || unknownOutcome(code)
}

func class(code string) string {
	if len(code) < 2 {
		return ""
	}
	return code[:2]
}

// errConnect: there is no connection. While batches wait this is never
// permanent, so that a password that was changed too early doesn't make every
// batch dial anew.
var errConnect = errors.New("no connection to the database")

// refusal is an error that doesn't go away by itself.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error { return refusal(fmt.Sprintf(format, args...)) }

// permanent says that waiting doesn't help: what the database refuses it will
// refuse again.
func permanent(err error) bool {
	if r := refusal(""); errors.As(err, &r) {
		return true
	}
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !transient(pg.Code)
}

// final says that a batch must not, or need not, be sent again.
func final(err error) bool {
	if errors.Is(err, errConnect) {
		return false
	}
	return errors.Is(err, counter.ErrFull) || errors.Is(err, errUnknown) || errors.Is(err, errForeign) || permanent(err)
}
