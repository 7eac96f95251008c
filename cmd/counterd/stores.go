package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/admin"
	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/dirstore"
	"github.com/counterd/counterd/counter/filestore"
	"github.com/counterd/counterd/counter/pgstore"
)

// kind is what a store is. Nothing outside the table kinds asks for a prefix.
type kind struct {
	prefixes []string // of its text
	form     string   // what its text looks like, to a person
	one      bool     // it can hold one counter for all
	many     bool     // it can hold a counter for each name
	shared   bool     // several servers may have it; --counter chooses what in it

	// path is where in the file system it is; nil: nowhere. A store that has one
	// belongs to one process at a time, and open fails with busy for others.
	path func(text string) string
	busy error

	check    func(text string) error
	describe func(text string) string // without a password
	open     func(ctx context.Context, c *config, w watchers) (*opened, error)

	// For the store command, on a store that no server has open. nil: it doesn't
	// outlive its server.
	show     func(ctx context.Context, c *config) (int64, error)
	set      func(ctx context.Context, c *config, v int64) error
	counters func(c *config) counters
}

// watchers see what a store does.
type watchers struct {
	commits *admin.Commits
	log     *slog.Logger
}

// opened is an open store with what else can be asked of it.
type opened struct {
	store   io.Closer                              // a counter.Store or counter.InstantStore
	counter func(counter.Options) *counter.Counter // makes one over the store, which it then owns
	stats   func() admin.StoreStats                // nil: it has none
}

// waiting makes a store that needs waiting an opened one, if there is no error.
func waiting(s counter.Store, err error) (*opened, error) {
	return &opened{store: s, counter: func(o counter.Options) *counter.Counter { return counter.New(s, o) }}, err
}

// instant does so with one that doesn't.
func instant(s counter.InstantStore, err error) (*opened, error) {
	return &opened{store: s, counter: func(o counter.Options) *counter.Counter { return counter.NewInstant(s, o) }}, err
}

// snapshot says in the log what became of a snapshot of many counters.
func (w watchers) snapshot(size int64, took time.Duration, err error) {
	if err != nil {
		w.log.Warn("no snapshot of the counters; trying again", "err", err)
		return
	}
	w.log.Debug("snapshot", "bytes", size, "took", took)
}

// failing is a store that refuses hits at times while it answers reads.
type failing interface {
	Failing() error // why a hit would fail now; nil: it wouldn't
}

// kinds are all the stores.
var kinds = []*kind{
	{
		prefixes: []string{"file:"},
		form:     "file:PATH",
		one:      true,
		path:     filePath,
		busy:     filestore.ErrLocked,
		check:    func(text string) error { return checkPath(filePath(text), "file:counterd.db") },
		describe: asIs,
		open: func(_ context.Context, c *config, w watchers) (*opened, error) {
			if c.Sync > 0 {
				return instant(filestore.OpenPeriodic(filePath(c.Store), filestore.Options{Sync: c.Sync, Observe: w.commits.Observe}))
			}
			return waiting(filestore.Open(filePath(c.Store)))
		},
		show: func(_ context.Context, c *config) (int64, error) { return filestore.Show(filePath(c.Store)) },
		set:  func(_ context.Context, c *config, v int64) error { return filestore.Set(filePath(c.Store), v) },
	},
	{
		prefixes: []string{"dir:"},
		form:     "dir:PATH",
		many:     true,
		path:     dirPath,
		busy:     dirstore.ErrLocked,
		check:    func(text string) error { return checkPath(dirPath(text), "dir:counterd.d") },
		describe: asIs,
		open: func(_ context.Context, c *config, w watchers) (*opened, error) {
			o := dirstore.Options{Sync: c.Sync, MaxCounters: c.MaxCounters, Observe: w.commits.Observe, ObserveSnapshot: w.snapshot}
			if c.Sync > 0 {
				return instant(dirstore.OpenPeriodic(dirPath(c.Store), o))
			}
			return waiting(dirstore.Open(dirPath(c.Store), o))
		},
		counters: func(c *config) counters { return &dirByHand{path: dirPath(c.Store)} },
	},
	{
		prefixes: []string{"mem:"},
		form:     "mem:",
		one:      true,
		many:     true,
		check:    checkMem,
		describe: asIs,
		open: func(_ context.Context, c *config, _ watchers) (*opened, error) {
			if c.Per == perPath {
				return instant(counter.NewMemTable(c.MaxCounters), nil)
			}
			return instant(counter.NewMem(), nil)
		},
	},
	{
		prefixes: []string{"postgres://", "postgresql://"},
		form:     "a postgres:// URL",
		one:      true,
		many:     true,
		shared:   true,
		check:    checkPostgres,
		describe: pgstore.Describe,
		open: func(ctx context.Context, c *config, w watchers) (*opened, error) {
			store, err := pgstore.Open(ctx, c.Store, pgOptions(c, w.log))
			if err != nil {
				return nil, fmt.Errorf("store: %w", err)
			}
			o, _ := waiting(store, nil)
			o.stats = func() admin.StoreStats {
				st := store.Stats()
				return admin.StoreStats{Retries: st.Retries, Ambiguous: st.Ambiguous}
			}
			return o, nil
		},
		show:     func(ctx context.Context, c *config) (int64, error) { return pgByHand(c).Show(ctx) },
		set:      func(ctx context.Context, c *config, v int64) error { return pgByHand(c).Set(ctx, v) },
		counters: func(c *config) counters { return pgByHand(c) },
	},
}

// defaultStore is the store where none is given.
func defaultStore(per string) string {
	if per == perPath {
		return "dir:counterd.d"
	}
	return "file:counterd.db"
}

// parseStore finds what kind of store text names, and checks it. The error doesn't
// repeat text, which may hold a password.
func parseStore(text string) (*kind, error) {
	for _, k := range kinds {
		for _, prefix := range k.prefixes {
			if strings.HasPrefix(text, prefix) {
				return k, k.check(text)
			}
		}
	}
	return nil, errors.New("want " + storeForms(kinds))
}

// storeForms lists what the text of such stores may look like.
func storeForms(of []*kind) string {
	var forms []string
	for _, k := range of {
		forms = append(forms, k.form)
	}
	last := len(forms) - 1
	return strings.Join(forms[:last], ", ") + " or " + forms[last]
}

// storeName is the store as logs and the admin listener may show it.
func (c *config) storeName() string { return c.kind().describe(c.Store) }

// local reports whether the store is in this machine's file system, where one
// process has it at a time.
func (k *kind) local() bool { return k.path != nil }

// lasts reports whether the store outlives its server.
func (k *kind) lasts() bool { return k.show != nil || k.counters != nil }

func asIs(text string) string { return text }

func filePath(text string) string { return strings.TrimPrefix(text, "file:") }

func dirPath(text string) string { return strings.TrimPrefix(text, "dir:") }

func checkPath(path, example string) error {
	if path == "" || strings.ContainsRune(path, 0) {
		return errors.New("it needs a path, as in " + example)
	}
	return nil
}

func checkMem(text string) error {
	if text != "mem:" {
		return errors.New("mem: has nothing behind it")
	}
	return nil
}

func checkPostgres(text string) error {
	_, err := pgconn.ParseConfig(text)
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return fmt.Errorf("the postgres:// URL or the environment names a file that can't be read: %w", file)
	}
	if err != nil {
		return errors.New("the postgres:// URL can't be read (is a character of the password not percent-encoded?)")
	}
	return nil
}

func pgByHand(c *config) pgstore.ByHand {
	return pgstore.ByHand{URL: c.Store, Options: pgOptions(c, slog.Default())}
}

func pgOptions(c *config, log *slog.Logger) pgstore.Options {
	return pgstore.Options{Counter: c.Counter, PerPath: c.Per == perPath, MaxCounters: c.MaxCounters, Timeout: c.StoreTimeout, Log: log}
}
