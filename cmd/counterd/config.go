package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/counterd/counterd/cmd/counterd/internal/listen"
	"github.com/counterd/counterd/counter/pgstore"
	"github.com/counterd/counterd/engine"
)

// config is what the flags and the environment say. Every value has been
// checked by itself when parsing ends.
type config struct {
	Engine string
	Listen string
	Loops  int // 0: GOMAXPROCS

	Store           string
	Sync            time.Duration // 0: always
	Counter         string
	StoreTimeout    time.Duration
	TakeoverTimeout time.Duration

	Admin string // empty: off

	ReadTimeout    time.Duration
	WriteTimeout   time.Duration
	IdleTimeout    time.Duration
	MaxHeaderBytes int64
	MaxBodyBytes   int64
	MaxConns       int // 0: from the limit of descriptors
	DrainTimeout   time.Duration
	ReusePort      bool

	LogFormat string
	LogLevel  slog.Level
}

// option is one flag with its environment variable.
type option struct {
	group string
	name  string
	usage string
	value *value

	// needs is what the rest of the configuration must be for the flag to make
	// sense, and the words for it. nil: it always does.
	needs func(*config) bool
	wants string
}

// The groups of --help, in its order.
const (
	groupCounting = "Counting"
	groupStore    = "Store"
	groupAdmin    = "Admin listener and logs"
	groupLimits   = "Timeouts and limits"
	groupRestart  = "Stop and restart"
)

var groups = []string{groupCounting, groupStore, groupAdmin, groupLimits, groupRestart}

// options lists every flag of the server, with its default in c.
func options(c *config) []option {
	onGnet := func(c *config) bool { return c.Engine == engine.Gnet }
	onFile := func(c *config) bool { return isFile(c.Store) }
	onPostgres := func(c *config) bool { return isPostgres(c.Store) }

	return []option{
		{group: groupCounting, name: "engine",
			usage: "how connections are served: gnet (event loops), goroutine (one per connection) or std (net/http)",
			value: choice(&c.Engine, engine.Gnet, engine.Gnet, engine.Goroutine, engine.Std)},
		{group: groupCounting, name: "listen",
			usage: "TCP address of the counting listener; a socket handed over by systemd is used instead",
			value: address(&c.Listen, ":8080")},
		{group: groupCounting, name: "loops",
			usage: "event loops, gnet only",
			value: small(&c.Loops, maxLoops, "GOMAXPROCS"),
			needs: onGnet, wants: "--engine=gnet"},

		{group: groupStore, name: "store",
			usage: "where the count lives: file:PATH, mem: or a postgres:// URL",
			value: storeURL(&c.Store, "file:counterd.db")},
		{group: groupStore, name: "sync",
			usage: "file: always answers after the hit is on disk; a duration such as 100ms answers at once and syncs at least that often",
			value: syncing(&c.Sync),
			needs: onFile, wants: "a file: store"},
		{group: groupStore, name: "counter",
			usage: "PostgreSQL: which of its counters",
			value: counterName(&c.Counter, "default"),
			needs: onPostgres, wants: "a postgres:// store"},
		{group: groupStore, name: "store-timeout",
			usage: "what the store hasn't settled by then gets 503; also at start",
			value: duration(&c.StoreTimeout, "5s", time.Millisecond)},

		{group: groupAdmin, name: "admin",
			usage: "TCP address of metrics, health, profiles and the live page; empty turns it off",
			value: optionalAddress(&c.Admin, "127.0.0.1:8081")},
		{group: groupAdmin, name: "log-format",
			usage: "text or json",
			value: choice(&c.LogFormat, "text", "text", "json")},
		{group: groupAdmin, name: "log-level",
			usage: "debug, info, warn or error",
			value: level(&c.LogLevel)},

		{group: groupLimits, name: "read-timeout",
			usage: "a whole request must arrive within this",
			value: duration(&c.ReadTimeout, "10s", time.Millisecond)},
		{group: groupLimits, name: "write-timeout",
			usage: "a client that takes no byte of its answer for this long is cut",
			value: duration(&c.WriteTimeout, "10s", time.Millisecond)},
		{group: groupLimits, name: "idle-timeout",
			usage: "a quiet keep-alive connection is closed after this",
			value: duration(&c.IdleTimeout, "75s", time.Millisecond)},
		{group: groupLimits, name: "max-header-bytes",
			usage: "request line and fields; beyond it 431 or 414",
			value: integer(&c.MaxHeaderBytes, "16384", 1, 1<<30)},
		{group: groupLimits, name: "max-body-bytes",
			usage: "body with its chunk framing; beyond it 413",
			value: integer(&c.MaxBodyBytes, "1048576", 0, math.MaxInt64)},
		{group: groupLimits, name: "max-conns",
			usage: "open connections; beyond it 503",
			value: small(&c.MaxConns, math.MaxInt32, "what the limit of file descriptors allows, less a reserve")},

		{group: groupRestart, name: "drain-timeout",
			usage: "on SIGTERM or SIGINT, time to answer what is under way",
			value: duration(&c.DrainTimeout, "10s", time.Millisecond)},
		{group: groupRestart, name: "reuse-port",
			usage: "let another counterd listen on the same port (Linux)",
			value: boolean(&c.ReusePort),
			needs: func(c *config) bool { return !c.ReusePort || listen.ReusePortWorks }, wants: "Linux"},
		{group: groupRestart, name: "takeover-timeout",
			usage: "file: wait this long for another process to let go of the file and of the admin port",
			value: duration(&c.TakeoverTimeout, "0s", 0),
			needs: onFile, wants: "a file: store"},
	}
}

// usageError is a command line or an environment that can't be right.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

// env is the name of the option's environment variable.
func (o *option) env() string {
	return "COUNTERD_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

// fromEnvironment sets what no flag has set. A variable that is set but empty
// counts as set.
func fromEnvironment(flags *pflag.FlagSet, opts []option) error {
	for _, o := range opts {
		text, ok := os.LookupEnv(o.env())
		if !ok || flags.Changed(o.name) {
			continue
		}
		if err := o.value.Set(text); err != nil {
			return usagef("bad value for %s: %v", o.env(), err)
		}
	}
	return nil
}

// conflicts finds a flag given on the command line that makes no sense with
// the rest of c. A variable that doesn't apply is no error: one environment may
// serve several containers. --reuse-port is one wherever it comes from, because
// a start without it would not do what was asked.
func conflicts(flags *pflag.FlagSet, opts []option, c *config) error {
	for _, o := range opts {
		given := flags.Changed(o.name) || o.name == "reuse-port"
		if given && o.needs != nil && !o.needs(c) {
			return usagef("--%s needs %s", o.name, o.wants)
		}
	}
	return nil
}

// flagError turns pflag's errors into ours. Values are not repeated where they
// may hold a password.
func flagError(_ *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return usagef("unknown flag -%s (flags begin with two dashes)", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return usagef("unknown flag --%s", unknown.GetSpecifiedName())
	case errors.As(err, &missing):
		return usagef("--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &invalid):
		return usagef("bad value for --%s: %v", invalid.GetFlag().Name, errors.Unwrap(invalid))
	default:
		return usagef("a flag is malformed (write --name=value)")
	}
}

func isFile(store string) bool { return strings.HasPrefix(store, "file:") }

func isPostgres(store string) bool {
	return strings.HasPrefix(store, "postgres://") || strings.HasPrefix(store, "postgresql://")
}

// value is a flag's value: how its text is read and where it goes.
type value struct {
	kind    string // what --help calls it; empty for a switch
	text    string
	choices []string
	parse   func(text string) error // stores what it read
}

var _ pflag.Value = (*value)(nil)

func (v *value) String() string { return v.text }

func (v *value) Type() string {
	if v.kind == "" {
		return "bool"
	}
	return v.kind
}

func (v *value) Set(text string) error {
	if err := v.parse(text); err != nil {
		return err
	}
	v.text = text
	return nil
}

// withDefault makes def the value, shown in --help.
func (v *value) withDefault(def string) *value {
	if err := v.Set(def); err != nil {
		panic(fmt.Sprintf("default %q: %v", def, err)) // ours, not the user's
	}
	return v
}

// choice takes one of several words.
func choice(p *string, def string, choices ...string) *value {
	v := &value{kind: "NAME", choices: choices}
	v.parse = func(text string) error {
		if !slices.Contains(choices, text) {
			return fmt.Errorf("%q is none of %s", text, strings.Join(choices, ", "))
		}
		*p = text
		return nil
	}
	return v.withDefault(def)
}

func level(p *slog.Level) *value {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	var name string
	v := choice(&name, "info", "debug", "info", "warn", "error")
	read := v.parse
	v.parse = func(text string) error {
		if err := read(text); err != nil {
			return err
		}
		*p = levels[text]
		return nil
	}
	return v
}

func boolean(p *bool) *value {
	v := &value{}
	v.parse = func(text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = b
		return nil
	}
	return v.withDefault("false")
}

func duration(p *time.Duration, def string, least time.Duration) *value {
	v := &value{kind: "DURATION"}
	v.parse = func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration such as 500ms, 10s or 1m", text)
		}
		if d < least {
			return fmt.Errorf("%q is less than %v", text, least)
		}
		*p = d
		return nil
	}
	return v.withDefault(def)
}

func syncing(p *time.Duration) *value {
	v := &value{kind: "always|DURATION", choices: []string{"always"}}
	interval := duration(p, "1ms", time.Millisecond)
	v.parse = func(text string) error {
		if text == "always" {
			*p = 0
			return nil
		}
		if err := interval.parse(text); err != nil {
			return fmt.Errorf("%w, nor always", err)
		}
		return nil
	}
	return v.withDefault("always")
}

func integer(p *int64, def string, least, most int64) *value {
	v := &value{kind: "BYTES"}
	v.parse = func(text string) error {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is no number from %d to %d", text, least, most)
		}
		*p = n
		return nil
	}
	return v.withDefault(def)
}

// small takes a positive number whose default is not known before the start; p
// stays 0 then. def says what it will be.
func small(p *int, most int64, def string) *value {
	var n int64
	v := integer(&n, "1", 1, most)
	v.kind, v.text = "N", def
	read := v.parse
	v.parse = func(text string) error {
		if err := read(text); err != nil {
			return err
		}
		*p = int(n)
		return nil
	}
	return v
}

// maxLoops is far beyond what any machine has use for: each loop has a thread, a
// poller and a buffer.
const maxLoops = 256

func address(p *string, def string) *value {
	v := &value{kind: "ADDRESS"}
	v.parse = func(text string) error {
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return fmt.Errorf("%q is no HOST:PORT", text)
		}
		// An empty port would mean any, silently.
		if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
			return fmt.Errorf("%q has no port from 0 to 65535", text)
		}
		*p = text
		return nil
	}
	return v.withDefault(def)
}

func optionalAddress(p *string, def string) *value {
	v := address(p, def)
	read := v.parse
	v.parse = func(text string) error {
		if text == "" {
			*p = ""
			return nil
		}
		return read(text)
	}
	return v
}

func counterName(p *string, def string) *value {
	v := &value{kind: "NAME"}
	v.parse = func(text string) error {
		if err := pgstore.CheckName(text); err != nil {
			return err
		}
		*p = text
		return nil
	}
	return v.withDefault(def)
}

// storeURL never repeats what it was given: it may hold a password.
func storeURL(p *string, def string) *value {
	v := &value{kind: "STORE"}
	v.parse = func(text string) error {
		if err := checkStore(text); err != nil {
			return err
		}
		*p = text
		return nil
	}
	return v.withDefault(def)
}

func checkStore(text string) error {
	switch {
	case text == "mem:":
		return nil
	case isFile(text):
		path := strings.TrimPrefix(text, "file:")
		if path == "" || strings.ContainsRune(path, 0) {
			return errors.New("file: needs a path, as in file:counterd.db")
		}
		return nil
	case isPostgres(text):
		_, err := pgconn.ParseConfig(text)
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			return fmt.Errorf("the postgres:// URL or the environment names a file that can't be read: %w", file)
		}
		if err != nil {
			return errors.New("the postgres:// URL can't be read (is a character of the password not percent-encoded?)")
		}
		return nil
	default:
		return errors.New("want file:PATH, mem: or a postgres:// URL")
	}
}

// storeName is the store as logs and the admin listener may show it.
func storeName(store string) string {
	if !isPostgres(store) {
		return store
	}
	return pgstore.Describe(store)
}
