package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
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
var migrations = []string{
	`CREATE TABLE IF NOT EXISTS counterd_schema (
    version bigint PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS counterd_counter (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS counterd_replica (
    id       uuid PRIMARY KEY,
    counter  text NOT NULL,
    host     text NOT NULL,
    seq      bigint NOT NULL DEFAULT 0,
    total    bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    seen     timestamptz NOT NULL DEFAULT now()
);
INSERT INTO counterd_schema (version) VALUES (1) ON CONFLICT DO NOTHING;
`,
	`ALTER TABLE counterd_replica ADD COLUMN IF NOT EXISTS token bigint NOT NULL DEFAULT 0;
CREATE TABLE IF NOT EXISTS counterd_known (
    name text PRIMARY KEY
);
INSERT INTO counterd_known (name) SELECT name FROM counterd_counter ON CONFLICT DO NOTHING;
INSERT INTO counterd_schema (version) VALUES (2) ON CONFLICT DO NOTHING;
`,
}

// grants is what a role needs to use the tables; %[1]s is the role.
const grants = `GRANT SELECT ON counterd_schema TO %[1]s;
GRANT SELECT, INSERT ON counterd_known TO %[1]s;
GRANT SELECT, INSERT, UPDATE ON counterd_counter TO %[1]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON counterd_replica TO %[1]s;
`

// errSetup marks what only an administrator can put right.
var errSetup = errors.New("the database is not set up for counterd")

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
	_, err := s.session.exec(ctx, "WITH k AS (INSERT INTO counterd_known (name) VALUES ('"+s.counter+"') ON CONFLICT DO NOTHING RETURNING name)"+
		" INSERT INTO counterd_counter (name,value) SELECT name,0 FROM k ON CONFLICT (name) DO NOTHING")
	if code(err) == "42501" {
		return s.setupHelp(len(migrations), err)
	}
	if err != nil {
		return fmt.Errorf("making the counter: %w", err)
	}
	return s.examine(ctx)
}

// examine says what is wrong with the counter's row, if anything is.
func (s *Store) examine(ctx context.Context) error {
	r, err := s.session.exec(ctx, "SELECT value FROM counterd_counter WHERE name='"+s.counter+"'")
	if err != nil {
		return fmt.Errorf("looking for the counter: %w", err)
	}
	if len(r[0].Rows) == 0 {
		return fmt.Errorf("%w: the row of counter %q has gone from counterd_counter; if that was meant, counterd store set makes it anew", errSetup, s.counter)
	}
	value, err := number(r[0], 0)
	if err == nil && value < 0 {
		err = fmt.Errorf("%w: the row of counter %q in counterd_counter holds %d, which is no count; counterd store set puts it right", errSetup, s.counter, value)
	}
	return err
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

// Show returns the value of a counter, durable like an Add of 0. It makes
// nothing: tables or a counter that don't exist are an error.
func Show(ctx context.Context, url string, o Options) (int64, error) {
	s, err := newStore(url, o)
	if err != nil {
		return 0, err
	}
	defer s.drop()
	var value int64
	err = s.persist(ctx, func(ctx context.Context) error {
		if err := s.connect(ctx); err != nil {
			return err
		}
		// It writes for the same reason as a read of the counter does.
		r, err := s.session.exec(ctx, "BEGIN;"+demand+"UPDATE counterd_counter SET value=value WHERE name='"+s.counter+"' AND value>=0 RETURNING value;COMMIT")
		if code(err) == "42P01" { // undefined_table
			return fmt.Errorf("%w: there are no tables of counterd", errSetup)
		}
		if err != nil {
			return fmt.Errorf("reading the counter: %w", err)
		}
		if err := s.examine(ctx); err != nil {
			return err
		}
		value, err = number(r[len(r)-2], 0)
		return err
	})
	return value, err
}

// liveFor is for how long after its last batch a replica counts as running.
const liveFor = time.Minute

// Set gives a counter a value, making tables and counter where needed. It
// refuses while a replica uses the counter: one that has counted or read within
// the last minute and wasn't closed. A replica that it overlooks because it was
// idle stays exact: its bookkeeping row is removed in the same transaction, so
// that nothing from before can be counted on top of the new value.
func Set(ctx context.Context, url string, o Options, value int64) error {
	if value < 0 {
		return fmt.Errorf("a count of %d: it is 0 to 9223372036854775807", value)
	}
	s, err := newStore(url, o)
	if err != nil {
		return err
	}
	defer s.drop()
	return s.persist(ctx, func(ctx context.Context) error {
		if err := s.connect(ctx); err != nil {
			return err
		}
		if err := s.migrate(ctx); err != nil {
			return err
		}
		return s.set(ctx, value)
	})
}

func (s *Store) set(ctx context.Context, value int64) error {
	r, err := s.session.exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED;"+demand+"SELECT host FROM counterd_replica WHERE counter='"+s.counter+
		"' AND seen>now()-interval '"+strconv.Itoa(int(liveFor.Seconds()))+" seconds' LIMIT 1")
	if err != nil {
		return fmt.Errorf("looking for running replicas: %w", err)
	}
	if live := r[len(r)-1].Rows; len(live) > 0 {
		return fmt.Errorf("%w: a replica on %q used counter %q within the last %v; stop the replicas first", errSetup, live[0][0], s.counter, liveFor)
	}
	v := strconv.FormatInt(value, 10)
	_, err = s.session.exec(ctx, "DELETE FROM counterd_replica WHERE counter='"+s.counter+
		"';INSERT INTO counterd_known (name) VALUES ('"+s.counter+"') ON CONFLICT DO NOTHING;INSERT INTO counterd_counter (name,value) VALUES ('"+s.counter+"',"+v+") ON CONFLICT (name) DO UPDATE SET value=EXCLUDED.value;COMMIT")
	if err != nil {
		return fmt.Errorf("setting the counter: %w", err)
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
func quoteIdentifier(name string) string {
	out := make([]byte, 0, len(name)+2)
	out = append(out, '"')
	for i := range len(name) {
		if name[i] == '"' {
			out = append(out, '"')
		}
		out = append(out, name[i])
	}
	return string(append(out, '"'))
}

var _ counter.Store = (*Store)(nil)
