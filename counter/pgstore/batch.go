package pgstore

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// errNoRow: the bookkeeping row is missing. The attempt counted nothing.
	errNoRow = errors.New("the replica's bookkeeping row has gone from counterd_replica; it will use a new one")

	// errForeign: the bookkeeping row was used by somebody else.
	errForeign = errors.New("the replica's bookkeeping row in counterd_replica was used by another one; it will use a new one")
)

// appendSQL appends the transaction of one attempt; doc.go explains it. The
// server gives up waiting for a lock a little before the client does: then the
// outcome is known, and the connection stays. Also, a transaction whose client
// has gone doesn't linger.
func (b *batch) appendSQL(buf []byte, id, counter string, wait time.Duration, syncCommit string) []byte {
	buf = append(buf, "BEGIN ISOLATION LEVEL READ COMMITTED;SET LOCAL statement_timeout="...)
	buf = strconv.AppendInt(buf, max(1, (wait-wait/10).Milliseconds()), 10)
	buf = append(buf, ';')
	buf = append(buf, syncCommit...)
	buf = append(buf, "SELECT seq FROM counterd_replica WHERE id='"...)
	buf = append(buf, id...)
	buf = append(buf, "' FOR UPDATE;UPDATE counterd_counter SET value=value+"...)
	buf = strconv.AppendInt(buf, b.hits, 10)
	buf = append(buf, " WHERE name='"...)
	buf = append(buf, counter...)
	buf = append(buf, "' AND EXISTS(SELECT 1 FROM counterd_replica WHERE id='"...)
	buf = append(buf, id...)
	buf = append(buf, "' AND seq<"...)
	buf = strconv.AppendInt(buf, b.seq, 10)
	buf = append(buf, ");UPDATE counterd_replica SET total=CASE WHEN seq<"...)
	buf = strconv.AppendInt(buf, b.seq, 10)
	buf = append(buf, " THEN (SELECT value FROM counterd_counter WHERE name='"...)
	buf = append(buf, counter...)
	buf = append(buf, "') ELSE total END,seq=CASE WHEN seq<"...)
	buf = strconv.AppendInt(buf, b.seq, 10)
	buf = append(buf, " THEN "...)
	buf = strconv.AppendInt(buf, b.seq, 10)
	buf = append(buf, " ELSE seq END,attempts=attempts+1,seen=now() WHERE id='"...)
	buf = append(buf, id...)
	return append(buf, "' RETURNING total;COMMIT"...)
}

// decode reads the answer to appendSQL: the sequence number that the row had
// before, and the total of the batch that it has now.
func decode(results []*pgconn.Result) (seq, total int64, err error) {
	if len(results) < 4 {
		return 0, 0, fmt.Errorf("the database answered a batch with %d results", len(results))
	}
	r := results[len(results)-4:]
	lock, count, stamp, end := r[0], r[1], r[2], r[3]
	if end.CommandTag.String() != "COMMIT" {
		return 0, 0, fmt.Errorf("the database ended a batch with %q", end.CommandTag)
	}
	if len(lock.Rows) == 0 {
		return 0, 0, errNoRow
	}
	if seq, err = number(lock); err != nil {
		return 0, 0, err
	}
	if total, err = number(stamp); err != nil {
		return 0, 0, err
	}
	if count.CommandTag.RowsAffected() > 1 {
		return 0, 0, errors.New("the counter has more than one row in counterd_counter")
	}
	return seq, total, nil
}

// number reads a result of one row and one column.
func number(r *pgconn.Result) (int64, error) {
	if len(r.Rows) != 1 || len(r.Rows[0]) != 1 {
		return 0, fmt.Errorf("the database answered %q where one number was asked for", r.CommandTag)
	}
	n, err := strconv.ParseInt(string(r.Rows[0][0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the database answered with a bad number: %w", err)
	}
	return n, nil
}
