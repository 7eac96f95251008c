package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/counterd/counterd/cmd/counterd/internal/listen"
	"github.com/counterd/counterd/counter/pgstore"
	"github.com/counterd/counterd/engine"
)

// config is what the flags and the environment say. Every value has been
// checked by itself when parsing ends.
type config struct {
	// The part of the engine's that flags say. Loops 0: GOMAXPROCS; MaxConns 0: from
	// the limit of descriptors.
	engine.Config

	Listen      string
	Per         string // perAll or perPath
	MaxCounters int64  // perPath only

	Store           string        // as its text was given; kind says what it is
	Sync            time.Duration // 0: always
	Counter         string
	StoreTimeout    time.Duration
	TakeoverTimeout time.Duration

	Admin string // empty: off

	DrainTimeout time.Duration
	DrainDelay   time.Duration
	ReusePort    bool

	LogFormat string
	LogLevel  string // as slog spells it
}

// What has a counter of its own, as --per says it.
const (
	perAll  = "all"  // all requests together have one
	perPath = "path" // each path
)

// kind is the row of the table of stores that c.Store belongs to.
func (c *config) kind() *kind {
	k, err := parseStore(c.Store)
	if err != nil {
		panic(err) // it was checked when it was read
	}
	return k
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
	local := func(c *config) bool { return c.kind().local() }
	shared := func(c *config) bool { return c.kind().shared }
	byPath := func(c *config) bool { return c.Per == perPath }

	return []option{
		{group: groupCounting, name: "engine",
			usage: "how connections are served: gnet (event loops), goroutine (one per connection) or std (net/http)",
			value: choice(&c.Engine, engine.Gnet, engine.Gnet, engine.Goroutine, engine.Std)},
		{group: groupCounting, name: "listen",
			usage: "TCP address of the counting listener; a socket handed over by systemd is used instead",
			value: checked(&c.Listen, "ADDRESS", checkAddress).withDefault(":8080")},
		{group: groupCounting, name: "loops",
			usage: "event loops, gnet only",
			value: small(&c.Loops, maxLoops, "GOMAXPROCS"),
			needs: onGnet, wants: "--engine=gnet"},
		{group: groupCounting, name: "per",
			usage: "all: one counter for every request; path: each path has a counter of its own",
			value: choice(&c.Per, perAll, perAll, perPath)},
		{group: groupCounting, name: "max-counters",
			usage: "--per=path: hits on further paths get 507",
			value: integer(&c.MaxCounters, "1000000", "N", 1, maxCounters),
			needs: byPath, wants: "--per=path"},
		{group: groupCounting, name: "cors",
			usage: "let pages of this origin (* for any) count and read by script",
			value: checked(&c.CORS, "ORIGIN", orEmpty(checkOrigin))},

		{group: groupStore, name: "store",
			usage: "where counts live: " + storeForms(kinds) + "; with --per=path the default is " + defaultStore(perPath),
			value: storeText(&c.Store, defaultStore(perAll))},
		{group: groupStore, name: "sync",
			usage: "file and dir: always answers after the hit is on disk; a duration such as 100ms answers at once and syncs at least that often",
			value: syncing(&c.Sync),
			needs: local, wants: "a file: or dir: store"},
		{group: groupStore, name: "counter",
			usage: "PostgreSQL: which of its counters",
			value: checked(&c.Counter, "NAME", pgstore.CheckName).withDefault("default"),
			needs: shared, wants: "a postgres:// store"},
		{group: groupStore, name: "store-timeout",
			usage: "what the store hasn't settled by then gets 503; also at start",
			value: duration(&c.StoreTimeout, "5s", time.Millisecond)},

		{group: groupAdmin, name: "admin",
			usage: "TCP address of metrics, health, profiles and the live page; empty turns it off",
			value: checked(&c.Admin, "ADDRESS", orEmpty(checkAddress)).withDefault("127.0.0.1:8081")},
		{group: groupAdmin, name: "log-format",
			usage: "text or json",
			value: choice(&c.LogFormat, "text", "text", "json")},
		{group: groupAdmin, name: "log-level",
			usage: "debug, info, warn or error",
			value: choice(&c.LogLevel, "info", "debug", "info", "warn", "error")},

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
			value: integer(&c.MaxHeaderBytes, "16384", "BYTES", 1, 1<<30)},
		{group: groupLimits, name: "max-body-bytes",
			usage: "body with its chunk framing; beyond it 413",
			value: integer(&c.MaxBodyBytes, "1048576", "BYTES", 0, math.MaxInt64)},
		{group: groupLimits, name: "max-conns",
			usage: "open connections; beyond it 503",
			value: small(&c.MaxConns, math.MaxInt32, "what the limit of file descriptors allows, less a reserve")},

		{group: groupRestart, name: "drain-timeout",
			usage: "on SIGTERM, SIGINT or SIGHUP, time to answer what is under way",
			value: duration(&c.DrainTimeout, "10s", time.Millisecond)},
		{group: groupRestart, name: "drain-delay",
			usage: "go on for this long before that, with /readyz at 503",
			value: duration(&c.DrainDelay, "0s", 0)},
		{group: groupRestart, name: "reuse-port",
			usage: "let another counterd listen on the same port (Linux); nothing with file and dir",
			value: boolean(&c.ReusePort),
			needs: func(c *config) bool { return !c.sharesPort() || listen.ReusePortWorks }, wants: "Linux"},
		{group: groupRestart, name: "takeover-timeout",
			usage: "file and dir: take over from another process and wait this long for it to be told to stop",
			value: duration(&c.TakeoverTimeout, "0s", 0),
			needs: local, wants: "a file: or dir: store"},
	}
}

// maxCounters bounds --max-counters: 64 bytes for each are no more than 2^46.
const maxCounters = 1 << 40

// sharesPort reports whether other processes may listen on the same port. Before a
// store that one process has at a time they may not: there the socket is handed over.
func (c *config) sharesPort() bool { return c.ReusePort && !c.kind().local() }

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

// kubernetes are the variables that Kubernetes sets for a service whose name
// begins with counterd.
var kubernetes = regexp.MustCompile(`^COUNTERD(_.*)?_(SERVICE_HOST$|SERVICE_PORT|PORT)`)

// unknownVariables returns the names in environ, of NAME=VALUE, that are spelt like
// an option's and are none.
func unknownVariables(environ []string, opts []option) (names []string) {
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		known := slices.ContainsFunc(opts, func(o option) bool { return o.env() == name })
		if strings.HasPrefix(name, "COUNTERD_") && !known && !kubernetes.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
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

// fits checks that the store can hold what --per wants, wherever both come from.
func (c *config) fits() error {
	k := c.kind()
	if c.Per == perPath && !k.many {
		single := func(k *kind) bool { return !k.many }
		return usagef("--per=path needs %s; %s holds a single counter", storeForms(slices.DeleteFunc(slices.Clone(kinds), single)), k.form)
	}
	if c.Per == perAll && !k.one {
		return usagef("%s needs --per=path: it holds a counter for each name", k.form)
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
