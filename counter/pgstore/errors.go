package pgstore

import (
	"errors"

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
		"55P03", // lock_not_available
		"55000", // object_not_in_prerequisite_state: starting up as a primary
		"0A000", // feature_not_supported: a pooler or a standby in between
		"42P05", // duplicate_prepared_statement: a pooler that mixes sessions up
		"26000": // invalid_sql_statement_name: the same
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

// wrongServer says that another host may do better.
func wrongServer(code string) bool { return code == "25006" || class(code) == "57" && code != "57014" }

func class(code string) string {
	if len(code) < 2 {
		return ""
	}
	return code[:2]
}

// permanent says that waiting doesn't help: what the database refuses it will
// refuse again.
func permanent(err error) bool {
	if errors.Is(err, errSetup) {
		return true
	}
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !transient(pg.Code)
}

// final says that a batch must not, or need not, be sent again.
func final(err error) bool {
	return errors.Is(err, counter.ErrFull) || errors.Is(err, errUnknown) || errors.Is(err, errForeign) || permanent(err)
}
