package pgstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// config is how to connect.
type config struct {
	connString string
	timeout    time.Duration
	user       string // as the connection string, the environment or a service file had it last
	warned     string // what was said about the server's settings last
	pooled     bool   // sessions are shared, so nothing can be prepared
}

// parse reads the connection string and what it refers to: password file,
// service file, certificates. Its errors hold nothing of it, since in a malformed
// one a password can be anywhere.
func (c *config) parse() (*pgconn.Config, error) {
	pg, err := parseConfig(c.connString)
	if err != nil {
		return nil, fmt.Errorf("bad PostgreSQL URL (not shown, it may hold a password): %s", explain(err))
	}
	if pg.RuntimeParams["application_name"] == "" {
		pg.RuntimeParams["application_name"] = "counterd"
	}
	// A batch writes, so a standby is never of use. Where the URL says nothing,
	// this picks the primary out of several hosts.
	if pg.ValidateConnect == nil {
		pg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	// A host that doesn't answer must leave time to try the others.
	perHost := max(c.timeout/2/time.Duration(1+len(pg.Fallbacks)), 100*time.Millisecond)
	if pg.ConnectTimeout == 0 || pg.ConnectTimeout > perHost {
		pg.ConnectTimeout = perHost
	}
	c.user = pg.User
	return pg, nil
}

func parseConfig(connString string) (*pgconn.Config, error) {
	// With a / in a password that is not escaped, the rest of the password would
	// be the database's name, which everybody may see.
	_, rest, _ := strings.Cut(connString, "://")
	beforeQuery, _, _ := strings.Cut(rest, "?")
	if _, path, _ := strings.Cut(beforeQuery, "/"); strings.Contains(path, "@") {
		return nil, errors.New("@ in the database's name")
	}
	return pgconn.ParseConfig(connString)
}

// explain picks what is known to be harmless out of pgconn's error.
func explain(err error) string {
	text := err.Error()
	for _, known := range []string{
		"failed to read service", "invalid sslcertmode", "invalid connect_timeout", "invalid port", "failed to configure TLS",
		"unknown target_session_attrs", "min_protocol_version", "max_protocol_version", "channel_binding", "invalid require_auth",
		"could not match", "invalid URL escape", "invalid character", "missing end of string",
	} {
		if strings.Contains(text, known) {
			return known
		}
	}
	return "its form is postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE, special characters escaped as %XX"
}

// Describe names the hosts and the database of a connection string, and no
// secrets. It is what a log may show.
func Describe(connString string) string {
	pg, err := parseConfig(connString)
	if err != nil {
		return "postgres://…"
	}
	hosts := []string{hostPort(pg.Host, pg.Port)}
	for _, f := range pg.Fallbacks {
		if h := hostPort(f.Host, f.Port); h != hosts[len(hosts)-1] { // sslmode=prefer lists each host twice
			hosts = append(hosts, h)
		}
	}
	return "postgres://" + strings.Join(hosts, ",") + "/" + url.PathEscape(pg.Database)
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// session is one connection.
type session struct {
	conn *pgconn.PgConn
	raw  net.Conn // below TLS

	// unsafe is set by a notice during exec: the commit isn't on the standby.
	unsafe bool

	prepared     bool // the session knows the statements of a batch
	unpreparable bool // it has refused to

	warnings string // about the server's settings
}

// dialing is the context key that marks the dialing of connect.
type dialing struct{}

// errBroken: pgconn doesn't tell how it broke.
var errBroken = errors.New("the connection to the database broke before the answer")

// errUnsafe: the transaction is committed on the primary only.
var errUnsafe = errors.New("the commit's wait for the synchronous standby was cancelled")

// connectError says on one line what pgconn says on several, and once what it
// says twice: sslmode=prefer tries each host with TLS and without.
type connectError struct{ err error }

func (e *connectError) Error() string {
	var said []string
	for line := range strings.Lines(e.err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(said, line) {
			said = append(said, line)
		}
	}
	if len(said) > 1 && strings.HasSuffix(said[0], ":") {
		said[0] += " " + said[1]
		said = slices.Delete(said, 1, 2)
	}
	return strings.Join(said, "; ")
}

func (e *connectError) Unwrap() error { return e.err }

// connect makes a session. What the connection string refers to is read again
// each time: passwords and certificates change while counterd runs.
func (c *config) connect(ctx context.Context) (*session, error) {
	pg, err := c.parse()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeLeft(ctx)/2)
	defer cancel()

	s := &session{}
	ctx = context.WithValue(ctx, dialing{}, true)
	pg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		// pgconn dials again, in the background and for up to 15 s, to cancel the
		// query of a broken connection. The server does that by itself
		// (statement_timeout), and while it is away more dialing does no good.
		if ctx.Value(dialing{}) == nil {
			return nil, net.ErrClosed
		}
		d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
		conn, err := d.DialContext(ctx, network, addr)
		s.raw = conn
		return conn, err
	}
	pg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		// The function that raised it identifies it in any language.
		if n.Routine == "SyncRepWaitForLSN" {
			s.unsafe = true
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, pg)
	if err != nil {
		return nil, &connectError{err}
	}
	s.conn = conn
	if err := s.inspect(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// prepare lets the server parse and plan the statements of a batch once per
// session, which nearly halves what a batch costs it. Where that doesn't work
// they go out in plain SQL: behind a pooler in transaction mode, where the
// session may have been prepared by somebody else, or is another one later.
func (c *config) prepare(ctx context.Context, s *session, statements []statement) error {
	if c.pooled || s.prepared || s.unpreparable {
		return nil
	}
	_, err := s.exec(ctx, prepareSQL(statements))
	switch {
	case err == nil:
		s.prepared = true
		return nil
	case code(err) == "" || s.closed():
		return fmt.Errorf("preparing: %w", err)
	}
	s.unpreparable = true
	c.pooled = code(err) == "42P05" // duplicate_prepared_statement
	return nil
}

// inspect looks at settings that nothing can be done about here, and at one that
// an administrator may not have meant.
func (s *session) inspect(ctx context.Context) error {
	r, err := s.exec(ctx, "SELECT current_setting('fsync',true),current_setting('full_page_writes',true),current_setting('synchronous_commit',true)")
	if err != nil {
		return fmt.Errorf("asking for the server's settings: %w", err)
	}
	if len(r) != 1 || len(r[0].Rows) != 1 || len(r[0].Rows[0]) != 3 {
		return errors.New("asking for the server's settings: unexpected answer")
	}
	row := r[0].Rows[0]
	var warnings []string
	for i, name := range []string{"fsync", "full_page_writes"} {
		if string(row[i]) == "off" {
			warnings = append(warnings, name+" is off: a crash of the database server can lose or damage the count")
		}
	}
	switch v := string(row[2]); v {
	case "off", "local", "remote_write":
		warnings = append(warnings, "synchronous_commit is "+v+" for this role; counterd commits with on")
	}
	s.warnings = strings.Join(warnings, "; ")
	return nil
}

// exec runs statements in one message and returns their results.
func (s *session) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	s.unsafe = false
	r, err := s.conn.Exec(ctx, sql).ReadAll()
	if errors.Is(err, pgconn.ErrConnClosed) {
		return nil, errBroken
	}
	if err != nil {
		return nil, err
	}
	if s.unsafe {
		return nil, errUnsafe
	}
	return r, nil
}

// reset ends a transaction that failed. It returns false if the session is of
// no more use.
func (s *session) reset(ctx context.Context) bool {
	if s.closed() {
		return false
	}
	if s.conn.TxStatus() == 'I' {
		return true
	}
	_, err := s.exec(ctx, "ROLLBACK")
	return err == nil && s.conn.TxStatus() == 'I'
}

func (s *session) closed() bool { return s.conn.IsClosed() }

// close never waits for the network.
func (s *session) close() {
	if !s.closed() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = s.conn.Close(ctx) // says goodbye
	}
	// pgconn closes a broken connection in the background, politely. Without a
	// socket that ends at once.
	_ = s.raw.Close()
	<-s.conn.CleanupDone()
}
