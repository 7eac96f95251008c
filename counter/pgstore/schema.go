package pgstore

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/counter"
)

// migrations lead from version i to i+1. Each one ends by noting its version, and
// is run in one transaction; when several replicas run it at once, one wins and
// the others fail, and look again. An administrator may have to run them by hand,
// so running them twice does no harm. Replicas of the version before run on with
// the tables that a migration leaves. Tables are locked in the order in which
// batches lock their rows.
var migrations = []string{version1, version2}

//go:embed schema/1.sql
var version1 string

//go:embed schema/2.sql
var version2 string

// grants is what a role needs to use the tables; %[1]s is the role.
//
//go:embed schema/grants.sql
var grants string

// errSetup: only an administrator can put it right.
const errSetup = refusal("the database is not set up for counterd")

// migrate brings the tables to the version of this program.
func (s *Store) migrate(ctx context.Context) error {
	for {
		v, err := s.version(ctx)
		if err != nil {
			return err
		}
		if v == len(migrations) {
			return nil
		}
		if v > len(migrations) {
			return fmt.Errorf("%w: its tables have version %d, made by a newer counterd; this one knows version %d", errSetup, v, len(migrations))
		}
		_, err = s.session.exec(ctx, "BEGIN;"+migrations[v]+"COMMIT")
		if err == nil {
			continue
		}
		if code(err) == "42501" { // insufficient_privilege
			return s.setupHelp(v, err)
		}
		if !raced(err) || !s.session.reset(ctx) {
			return fmt.Errorf("making the tables: %w", err)
		}
		if err := s.pause(ctx); err != nil {
			return fmt.Errorf("making the tables: %w", err)
		}
	}
}

// version asks for the version of the tables; 0 means none.
func (s *Store) version(ctx context.Context) (int, error) {
	r, err := s.session.exec(ctx, "SELECT coalesce(max(version),0) FROM counterd_schema")
	switch code(err) {
	case "42P01": // undefined_table
		return 0, nil
	case "42501": // insufficient_privilege
		return 0, s.setupHelp(len(migrations), err)
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the version of the tables: %w", err)
	}
	v, err := number(r[0], 0)
	return int(v), err
}

// raced says whether a migration failed because another replica ran it.
func raced(err error) bool {
	switch c := code(err); c {
	case "23505", // unique_violation: in the system catalog
		"42P07", // duplicate_table
		"42701", // duplicate_column
		"42710": // duplicate_object
		return true
	default:
		return class(c) == "40" || class(c) == "XX" // "tuple concurrently updated"
	}
}

// setupHelp is the error for a role that lacks a privilege.
func (s *Store) setupHelp(version int, err error) error {
	sql := fmt.Sprintf(grants, quoteIdentifier(s.conf.user))
	for i := len(migrations) - 1; i >= version; i-- {
		sql = migrations[i] + sql
	}
	return fmt.Errorf("%w: %w; as the database's owner, run:\n%s", errSetup, err, sql)
}

// create inserts the counter at 0 if there never was one of this name: a row that
// somebody deleted must not begin anew by itself.
func (s *Store) create(ctx context.Context) error {
	none := "NULL"
	if s.perPath {
		none = "0"
	}
	_, err := s.session.exec(ctx, "WITH k AS (INSERT INTO counterd_known (name) VALUES ('"+s.counter+"') ON CONFLICT DO NOTHING RETURNING name)"+
		" INSERT INTO counterd_counter (name,value,names,name_bytes) SELECT name,0,"+none+","+none+" FROM k ON CONFLICT (name) DO NOTHING")
	if code(err) == "42501" {
		return s.setupHelp(len(migrations), err)
	}
	if err != nil {
		return fmt.Errorf("making the counter: %w", err)
	}
	return s.examine(ctx, nil)
}

// row is what counterd_counter has of a counter.
type row struct {
	value int64 // with many names, their sum
	many  bool
	names int64 // how many
}

// look reads the counter's row. It refuses one that is missing, or holds what is
// no count.
func (s *Store) look(ctx context.Context) (c row, err error) {
	where := " FROM counterd_counter WHERE name='" + s.counter + "'"
	r, err := s.session.exec(ctx, "SELECT value,names IS NOT NULL,coalesce(names,0)"+where)
	if code(err) == "42703" { // undefined_column: nothing has brought the tables up to date yet
		r, err = s.session.exec(ctx, "SELECT value,false,0"+where)
	}
	if code(err) == "42P01" { // undefined_table
		return c, fmt.Errorf("%w: there are no tables of counterd: %w", errSetup, err)
	}
	if err != nil {
		return c, fmt.Errorf("looking for the counter: %w", err)
	}
	if len(r[0].Rows) == 0 {
		return c, s.gone(ctx)
	}
	if c.value, err = number(r[0], 0); err != nil {
		return c, err
	}
	c.many = string(r[0].Rows[0][1]) == "t"
	if c.names, err = number(r[0], 2); err != nil {
		return c, err
	}
	if c.value < 0 {
		return c, refuse("the row of counter %q in counterd_counter holds %d, which is no count; %s puts it right", s.counter, c.value, setCommand(c.many))
	}
	return c, nil
}

func setCommand(many bool) string {
	if many {
		return "counterd store load"
	}
	return "counterd store set"
}

// gone says that the counter has no row.
func (s *Store) gone(ctx context.Context) error {
	r, err := s.session.exec(ctx, "SELECT 1 FROM counterd_known WHERE name='"+s.counter+"'")
	if err != nil && code(err) != "42P01" { // undefined_table
		return fmt.Errorf("looking for the counter: %w", err)
	}
	if err != nil || len(r[0].Rows) == 0 {
		return refuse("there is no counter %q", s.counter)
	}
	return refuse("the row of counter %q has gone from counterd_counter; if that was meant, counterd store set or load makes it anew", s.counter)
}

// examine says what is wrong with the counter's row, or those of deltas, if
// anything is.
func (s *Store) examine(ctx context.Context, deltas []counter.Delta) error {
	c, err := s.look(ctx)
	switch {
	case err != nil:
		return err
	case c.many && !s.perPath:
		return refuse("counter %q has a count for each path; for one count of all requests, use another --counter, or --per=path for this one", s.counter)
	case !c.many && s.perPath:
		return refuse("counter %q is one count of all requests; for a count of each path, use another --counter, or --per=all for this one", s.counter)
	}
	s.lister.names.Store(c.names)
	if len(deltas) == 0 || !s.perPath {
		return nil
	}
	r, err := s.session.exec(ctx, "BEGIN;"+byIndex+"SELECT encode(name,'hex'),value FROM counterd_path WHERE counter='"+s.counter+
		"' AND value<0 AND name IN (SELECT decode(n,'hex') FROM unnest("+string(appendNames(nil, deltas))+"::text[]) AS t(n)) LIMIT 1;COMMIT")
	if err != nil {
		return fmt.Errorf("looking for the counters: %w", err)
	}
	bad, err := namedRows(r[len(r)-2])
	if err != nil || len(bad) == 0 {
		return err
	}
	return refuse("the row of %q of counter %q in counterd_path holds %d, which is no count; counterd store set puts it right", bad[0].Name, s.counter, bad[0].Count)
}

// register inserts a new bookkeeping row. If it fails, the row may be there; it
// then stays unused, and is cleaned up some day.
func (s *Store) register(ctx context.Context) error {
	id := newID()
	host, _ := os.Hostname() // only for people who look at the table
	r := s.session.conn.ExecParams(ctx, "INSERT INTO counterd_replica (id,counter,host) VALUES ($1,$2,$3)",
		[][]byte{[]byte(id), []byte(s.counter), []byte(host)}, nil, nil, nil).Read()
	if code(r.Err) == "42501" {
		return s.setupHelp(len(migrations), r.Err)
	}
	if r.Err != nil {
		return fmt.Errorf("inserting the bookkeeping row: %w", r.Err)
	}
	s.id = id
	s.stats.ids.Add(1)
	return nil
}

// newID returns a random id: 128 bits, so that none ever comes twice.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// sweep removes bookkeeping rows that nobody has used for a long time, now and
// then. Failing does no harm.
func (s *Store) sweep(ctx context.Context) {
	now := time.Now()
	if now.Before(s.nextSweep) {
		return
	}
	s.nextSweep = now.Add(sweepEvery)
	ctx, cancel := context.WithTimeout(ctx, timeLeft(ctx)/4)
	defer cancel()
	// Only the server's clock counts. A row that is in use, hence locked, isn't
	// worth waiting for.
	sql := fmt.Sprintf("BEGIN;SET LOCAL statement_timeout=%d;DELETE FROM counterd_replica WHERE seen<now()-interval '%d seconds';COMMIT",
		max(1, timeLeft(ctx).Milliseconds()/2), int64(s.retention.Seconds()))
	if _, err := s.session.exec(ctx, sql); err != nil {
		s.log.Debug("old bookkeeping rows stay", "error", err)
		s.session.reset(ctx)
	}
}

var validName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,63}$`)

// CheckName says whether a counter may have this name.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("bad counter name %q: 1 to 63 ASCII letters, digits and . _ : - are allowed", name)
	}
	return nil
}

// code is the SQLSTATE of an error that the server reported, or "".
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// quoteIdentifier makes any role's name fit for SQL.
func quoteIdentifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

var _ counter.Store = (*Store)(nil)
