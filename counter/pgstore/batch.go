package pgstore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/counter"
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

// byIndex keeps the planner from reading the whole table for a few names, which it
// may choose while the table is small and repeat from a plan that it has kept when
// it is large; and from compiling a statement because its arrays are long.
const byIndex = "SET LOCAL enable_seqscan=off;SET LOCAL jit=off;"

// prefix is in front of the names of prepared statements. It has a version of its
// own: behind a pooler, sessions prepared by one version of counterd may be used by
// another. Whoever changes a statement must raise it.
const prefix = "counterd_2_"

// statement is one of a batch's; doc.go explains them. Its parameters are
//
//	$1 the counter's name     $2 the hits: a number, or an array of them
//	$3 the replica's id       $4 the batch's sequence number
//	$5 the batch's token      $6 the names of counters, an array of hexadecimal texts
//	$7 how many names may be  $8 how many bytes they may have together
//
// There is one source for both ways to send it, as it is and prepared.
type statement struct {
	name  string
	args  string // the parameters that it has: "145" are $1, $4 and $5
	types string // of args
	sql   string
}

var (
	lock = statement{"lock", "3", "uuid",
		"SELECT seq,token," + demandSync + " FROM counterd_replica WHERE id=$3 FOR UPDATE"}

	count = statement{"count", "12345", "text,bigint,uuid,bigint,bigint",
		"WITH c AS (UPDATE counterd_counter SET value=value+$2" +
			" WHERE name=$1 AND names IS NULL AND value>=0 AND EXISTS(SELECT 1 FROM counterd_replica WHERE id=$3 AND seq<$4) RETURNING value)" +
			" UPDATE counterd_replica SET total=CASE WHEN seq<$4 THEN (SELECT value FROM c) ELSE total END," +
			stamp + " RETURNING total"}

	sum = statement{"sum", "1", "text",
		"SELECT value FROM counterd_counter WHERE name=$1 FOR UPDATE"}

	counts = statement{"counts", "12345678", "text,bigint[],uuid,bigint,bigint,text[],bigint,bigint",
		// d: the deltas, if this batch isn't counted yet, each with what its counter has.
		"WITH d AS MATERIALIZED (SELECT i,name,hits,(SELECT p.value FROM counterd_path AS p WHERE p.counter=$1 AND p.name=u.name) AS old" +
			" FROM (SELECT i,decode(n,'hex') AS name,h AS hits FROM unnest($6::text[],$2::bigint[]) WITH ORDINALITY AS t(n,h,i)) AS u" +
			" WHERE EXISTS(SELECT 1 FROM counterd_replica WHERE id=$3 AND seq<$4))," +
			// e: which of them can be had. The shortest new names come first, so that
			// one which is refused wouldn't fit in what is left.
			"e AS MATERIALIZED (SELECT d.*,old IS NOT NULL OR hits=0 OR" +
			" (row_number() OVER w<=$7-c.names AND sum(octet_length(d.name)) OVER w<=$8-c.name_bytes) AS fits" +
			" FROM d CROSS JOIN counterd_counter AS c WHERE c.name=$1" +
			" WINDOW w AS (PARTITION BY old IS NULL AND hits>0 ORDER BY octet_length(d.name),d.name))," +
			"p AS (INSERT INTO counterd_path AS p (counter,name,value) SELECT $1,name,hits FROM e WHERE hits>0 AND fits ORDER BY name" +
			" ON CONFLICT (counter,name) DO UPDATE SET value=p.value+EXCLUDED.value)," +
			"s AS (UPDATE counterd_counter AS c SET value=c.value+n.hits,names=c.names+n.names,name_bytes=c.name_bytes+n.bytes" +
			" FROM (SELECT coalesce(sum(hits),0) AS hits,count(*) FILTER (WHERE old IS NULL) AS names," +
			"coalesce(sum(octet_length(name)) FILTER (WHERE old IS NULL),0) AS bytes FROM e WHERE hits>0 AND fits) AS n" +
			" WHERE c.name=$1 AND c.names IS NOT NULL AND c.value>=0 AND NOT EXISTS(SELECT 1 FROM e WHERE old<0) RETURNING c.value,c.names)" +
			" UPDATE counterd_replica SET total=CASE WHEN seq<$4 THEN (SELECT value FROM s) ELSE total END," +
			"totals=CASE WHEN seq<$4 THEN (SELECT array_agg(CASE WHEN fits THEN coalesce(old,0)+hits END ORDER BY i) FROM e) ELSE totals END," +
			stamp + " RETURNING total,totals,(SELECT names FROM s)"}

	// one is a batch on a single counter, many one on a counter of many names.
	one  = []statement{lock, count}
	many = []statement{lock, sum, counts}
)

// stamp ends the statement that counts.
const stamp = "token=CASE WHEN seq<$4 THEN $5 ELSE token END," +
	"seq=CASE WHEN seq<$4 THEN $4 ELSE seq END,attempts=attempts+1,seen=now() WHERE id=$3"

// prepareSQL makes a session know the statements, in SQL: EXECUTE can then be
// part of one message with the rest of the transaction.
func prepareSQL(statements []statement) string {
	var all []string
	for _, st := range statements {
		var renumber []string
		for i, n := range []byte(st.args) {
			renumber = append(renumber, "$"+string(n), "$"+strconv.Itoa(i+1))
		}
		all = append(all, "PREPARE "+prefix+st.name+"("+st.types+") AS "+strings.NewReplacer(renumber...).Replace(st.sql))
	}
	return strings.Join(all, ";")
}

// batch is hits on their way into the counter.
type batch struct {
	seq    int64
	token  int64 // tells it from a double's batch of the same seq
	deltas []counter.Delta

	tried     bool
	ambiguous bool // an attempt ended, and it may have counted
	found     bool // the last attempt found it counted already
}

// hits is what the batch adds to a single counter.
func (b *batch) hits() (n int64) {
	for i := range b.deltas {
		n += b.deltas[i].Hits
	}
	return n
}

// appendBatch appends the transaction of one attempt. The server gives up waiting
// for a lock a little before the client does: then the outcome is known, and the
// connection stays. Also, a transaction whose client has gone doesn't linger.
func (s *Store) appendBatch(buf []byte, b *batch, wait time.Duration) []byte {
	buf = append(buf, "BEGIN ISOLATION LEVEL READ COMMITTED;SET LOCAL statement_timeout="...)
	buf = strconv.AppendInt(buf, max(1, (wait-wait/10).Milliseconds()), 10)
	buf = append(buf, ";"+demandWarnings...)
	if s.perPath {
		buf = append(buf, byIndex...)
	}
	for _, st := range s.statements() {
		if s.session.prepared {
			buf = s.appendExecute(buf, b, st)
		} else {
			buf = s.appendPlain(buf, b, st)
		}
		buf = append(buf, ';')
	}
	return append(buf, "COMMIT"...)
}

func (s *Store) statements() []statement {
	if s.perPath {
		return many
	}
	return one
}

func (s *Store) appendExecute(buf []byte, b *batch, st statement) []byte {
	buf = append(buf, "EXECUTE "+prefix...)
	buf = append(buf, st.name...)
	by := byte('(')
	for _, n := range []byte(st.args) {
		buf = append(buf, by)
		buf = s.appendParameter(buf, b, n)
		by = ','
	}
	return append(buf, ')')
}

func (s *Store) appendPlain(buf []byte, b *batch, st statement) []byte {
	text, rest, found := strings.Cut(st.sql, "$")
	for found {
		buf = append(buf, text...)
		buf = s.appendParameter(buf, b, rest[0])
		text, rest, found = strings.Cut(rest[1:], "$")
	}
	return append(buf, text...)
}

// appendParameter appends a parameter of a statement. There is nothing in it that
// would have to be escaped.
func (s *Store) appendParameter(buf []byte, b *batch, n byte) []byte {
	switch n {
	case '1':
		return appendQuoted(buf, s.counter)
	case '2':
		if s.perPath {
			return appendHits(buf, b.deltas)
		}
		return strconv.AppendInt(buf, b.hits(), 10)
	case '3':
		return appendQuoted(buf, s.id)
	case '4':
		return strconv.AppendInt(buf, b.seq, 10)
	case '5':
		return strconv.AppendInt(buf, b.token, 10)
	case '6':
		return appendNames(buf, b.deltas)
	case '7':
		return strconv.AppendInt(buf, s.most, 10)
	default:
		return strconv.AppendInt(buf, counter.BytesPerName*min(s.most, math.MaxInt64/counter.BytesPerName), 10)
	}
}

func appendQuoted(buf []byte, text string) []byte {
	buf = append(buf, '\'')
	buf = append(buf, text...)
	return append(buf, '\'')
}

// appendNames appends an array's literal of names in hexadecimal, which needs no
// care for what PostgreSQL's arrays, strings and encodings make of an octet.
func appendNames(buf []byte, deltas []counter.Delta) []byte {
	buf = append(buf, "'{"...)
	for i := range deltas {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, '"') // for the empty name
		buf = hex.AppendEncode(buf, deltas[i].Name)
		buf = append(buf, '"')
	}
	return append(buf, "}'"...)
}

func appendHits(buf []byte, deltas []counter.Delta) []byte {
	buf = append(buf, "'{"...)
	for i := range deltas {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, deltas[i].Hits, 10)
	}
	return append(buf, "}'"...)
}

// answer is what the database says to an attempt.
type answer struct {
	seq, token int64  // of the bookkeeping row, as it was before
	total      int64  // of the batch whose seq the row has now
	totals     []byte // of its deltas; with many names only
	names      int64  // how many there are; with many names only
}

// decode reads the answer to appendBatch, of as many statements and a COMMIT.
func decode(results []*pgconn.Result, statements int) (a answer, err error) {
	if len(results) <= statements {
		return a, fmt.Errorf("the database answered a batch with %d results", len(results))
	}
	r := results[len(results)-statements-1:]
	lock, count, end := r[0], r[statements-1], r[statements]
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
	if a.total, err = number(count, 0); err != nil || len(count.Rows[0]) == 1 {
		return a, err
	}
	a.totals = count.Rows[0][1]
	a.names, err = number(count, 2)
	return a, err
}

// settle sets what the database said of each of the deltas.
func (a answer) settle(deltas []counter.Delta) error {
	rest := bytes.TrimSuffix(bytes.TrimPrefix(a.totals, []byte("{")), []byte("}"))
	for i := range deltas {
		d := &deltas[i]
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte(","))
		if string(text) == "NULL" {
			d.Total, d.Refused = 0, true
			continue
		}
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil || n < d.Hits {
			return fmt.Errorf("the database answered a batch of %d counters with %.100q", len(deltas), a.totals)
		}
		d.Total, d.Refused = n, false
	}
	if len(rest) > 0 {
		return fmt.Errorf("the database answered a batch of %d counters with more", len(deltas))
	}
	return nil
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
