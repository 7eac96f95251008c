package pgstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// errNoRow: the bookkeeping row is missing. The attempt counted nothing.
	errNoRow = errors.New("the replica's bookkeeping row has gone from counterd_replica; it will use a new one")

	// errForeign: the bookkeeping row was used by somebody else.
	errForeign = errors.New("the replica's bookkeeping row in counterd_replica was used by another one; it will use a new one")
)

// What safety rests on is demanded in every transaction: a setting that was
// looked at when a session began may have changed since, and behind a pooler the
// session is another one. Both hold until the transaction's end.
const (
	// demandSync has the commit wait for the disk and the synchronous standby. It
	// is an expression, and part of a statement that each batch needs anyway.
	demandSync = "set_config('synchronous_commit',CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,true)"

	// demandWarnings has the server say so when that wait was cancelled.
	demandWarnings = "SET LOCAL client_min_messages=warning;"

	demand = demandWarnings + "SELECT " + demandSync + ";"
)

// The statements of a batch; doc.go explains them. $1 is the counter's name, $2
// the hits, $3 the replica's id, $4 the sequence number, $5 the token. There is
// one source for both ways to send them, as they are and prepared.
//
// prefix has a version of its own: behind a pooler, sessions prepared by one
// version of counterd may be used by another. Whoever changes a statement must
// raise it.
const (
	prefix = "counterd_2_"

	lockSQL = "SELECT seq,token," + demandSync + " FROM counterd_replica WHERE id=$3 FOR UPDATE"

	countSQL = "WITH c AS (UPDATE counterd_counter SET value=value+$2" +
		" WHERE name=$1 AND value>=0 AND EXISTS(SELECT 1 FROM counterd_replica WHERE id=$3 AND seq<$4) RETURNING value)" +
		" UPDATE counterd_replica SET total=CASE WHEN seq<$4 THEN (SELECT value FROM c) ELSE total END," +
		"token=CASE WHEN seq<$4 THEN $5 ELSE token END," +
		"seq=CASE WHEN seq<$4 THEN $4 ELSE seq END,attempts=attempts+1,seen=now() WHERE id=$3 RETURNING total"
)

// prepareSQL makes a session know the statements, in SQL: EXECUTE can then be
// part of one message with the rest of the transaction.
var prepareSQL = "PREPARE " + prefix + "lock(uuid) AS " + strings.ReplaceAll(lockSQL, "$3", "$1") +
	";PREPARE " + prefix + "count(text,bigint,uuid,bigint,bigint) AS " + countSQL

// appendSQL appends the transaction of one attempt. The server gives up waiting
// for a lock a little before the client does: then the outcome is known, and the
// connection stays. Also, a transaction whose client has gone doesn't linger.
func (b *batch) appendSQL(buf []byte, id, counter string, wait time.Duration, s *session) []byte {
	buf = append(buf, "BEGIN ISOLATION LEVEL READ COMMITTED;SET LOCAL statement_timeout="...)
	buf = strconv.AppendInt(buf, max(1, (wait-wait/10).Milliseconds()), 10)
	buf = append(buf, ";"+demandWarnings...)
	if s.prepared {
		buf = b.appendExecute(buf, id, counter)
	} else {
		buf = b.appendPlain(buf, id, counter)
	}
	return append(buf, ";COMMIT"...)
}

func (b *batch) appendExecute(buf []byte, id, counter string) []byte {
	buf = append(buf, "EXECUTE "+prefix+"lock('"...)
	buf = append(buf, id...)
	buf = append(buf, "');EXECUTE "+prefix+"count('"...)
	buf = append(buf, counter...)
	buf = append(buf, "',"...)
	buf = strconv.AppendInt(buf, b.hits, 10)
	buf = append(buf, ",'"...)
	buf = append(buf, id...)
	buf = append(buf, "',"...)
	buf = strconv.AppendInt(buf, b.seq, 10)
	buf = append(buf, ',')
	buf = strconv.AppendInt(buf, b.token, 10)
	return append(buf, ')')
}

func (b *batch) appendPlain(buf []byte, id, counter string) []byte {
	r := strings.NewReplacer("$1", "'"+counter+"'", "$2", strconv.FormatInt(b.hits, 10), "$3", "'"+id+"'", "$4", strconv.FormatInt(b.seq, 10), "$5", strconv.FormatInt(b.token, 10))
	return append(buf, r.Replace(lockSQL+";"+countSQL)...)
}

// answer is what the database says to an attempt.
type answer struct {
	seq, token int64 // of the bookkeeping row, as it was before
	total      int64 // of the batch whose seq the row has now
}

// decode reads the answer to appendSQL.
func decode(results []*pgconn.Result) (a answer, err error) {
	if len(results) < 3 {
		return a, fmt.Errorf("the database answered a batch with %d results", len(results))
	}
	r := results[len(results)-3:]
	lock, count, end := r[0], r[1], r[2]
	if end.CommandTag.String() != "COMMIT" {
		return a, fmt.Errorf("the database ended a batch with %q", end.CommandTag)
	}
	if len(lock.Rows) == 0 {
		return a, errNoRow
	}
	if a.seq, err = number(lock, 0); err != nil {
		return a, err
	}
	if a.token, err = number(lock, 1); err != nil {
		return a, err
	}
	a.total, err = number(count, 0)
	return a, err
}

// number reads a column of a result of one row.
func number(r *pgconn.Result, column int) (int64, error) {
	if len(r.Rows) != 1 || len(r.Rows[0]) <= column {
		return 0, fmt.Errorf("the database answered %q where one number was asked for", r.CommandTag)
	}
	n, err := strconv.ParseInt(string(r.Rows[0][column]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the database answered with a bad number: %w", err)
	}
	return n, nil
}
