package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/counter"
)

const (
	// retention is how long an unused bookkeeping row lives. A replica that was
	// silent for longer only needs a new one; but a batch that it can't find any
	// more fails, so this is far above every pause that somebody waits for.
	retention = 7 * 24 * time.Hour

	sweepEvery = time.Hour

	// Retries begin fast, for a lost connection or a serialization failure, and
	// slow down to about one a second per replica while the database is away.
	firstPause = 10 * time.Millisecond
	maxPause   = time.Second

	// shortest is what an attempt gets at least, if there is so much time left:
	// less would only break connections.
	shortest = 200 * time.Millisecond

	// DefaultMaxCounters is used where Options.MaxCounters is 0.
	DefaultMaxCounters = 1_000_000
)

// Options configure a Store. The zero value is usable.
type Options struct {
	// Counter is the counter's name: 1 to 63 ASCII letters, digits and . _ : -
	// The default is "default". With PerPath it stands for all the counters of a
	// deployment, so that several can share a database.
	Counter string

	// PerPath: there are many counters, a name for each. A Counter that was made
	// one way can't be opened the other.
	PerPath bool

	// MaxCounters is how many names there may be, over all replicas, with
	// 64 bytes times this for all of them together; 0 means DefaultMaxCounters.
	MaxCounters int64

	// Timeout bounds Open and each Add; 0 means counter.DefaultTimeout.
	Timeout time.Duration

	// Log gets a line when the database goes away or refuses batches, and one when
	// it takes them again, at most one a second; nil means slog.Default().
	Log *slog.Logger
}

// Stats are counts since Open.
type Stats struct {
	Batches uint64 // batches that were settled: commits of hits and reads

	Retries  uint64 // attempts beyond the first of a batch
	Connects uint64 // connections made
	IDs      uint64 // bookkeeping rows inserted

	// Ambiguous batches had an attempt whose outcome was unknown when it ended.
	// They are Resolved by a later attempt, or Abandoned when the time was over.
	// Of the resolved ones, FoundApplied had been counted by the earlier attempt.
	Ambiguous    uint64
	Resolved     uint64
	FoundApplied uint64
	Abandoned    uint64
}

// Store is a counter in PostgreSQL, or with PerPath many. It implements
// counter.Store: Add and Close are for one goroutine at a time. It implements
// counter.Lister, too, which with a single counter has nothing to show. Stats may
// be called at any time.
type Store struct {
	*lister

	conf      *config
	counter   string
	perPath   bool
	timeout   time.Duration
	log       *slog.Logger
	retention time.Duration

	session *session // nil while there is no connection
	id      string   // of the bookkeeping row; empty while there is none
	seq     int64    // of the latest batch
	buf     []byte

	pauses    *backoff.ExponentialBackOff // goes on from Add to Add while the database is away
	report    report
	nextSweep time.Time

	stats struct {
		batches, retries, connects, ids              atomic.Uint64
		ambiguous, resolved, foundApplied, abandoned atomic.Uint64
	}
}

// Open connects to the database, makes what is missing there (tables, the
// counter at 0, a bookkeeping row), and returns the counter. It tries again
// until ctx or o.Timeout ends where waiting may help: the database may be
// starting, too. Its errors never hold a password.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	return begin(ctx, url, o, func(ctx context.Context, s *Store) error {
		if err := s.migrate(ctx); err != nil {
			return err
		}
		if err := s.create(ctx); err != nil {
			return err
		}
		return s.register(ctx)
	})
}

// begin returns a store that is connected, and with which f has succeeded: what
// fails is tried again like an attempt of a batch.
func begin(ctx context.Context, url string, o Options, f func(ctx context.Context, s *Store) error) (*Store, error) {
	s, err := newStore(url, o)
	if err != nil {
		return nil, err
	}
	err = s.persist(ctx, permanent, func(ctx context.Context) error {
		if err := s.connect(ctx); err != nil {
			return err
		}
		return f(ctx, s)
	})
	if err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

func newStore(url string, o Options) (*Store, error) {
	if o.Counter == "" {
		o.Counter = "default"
	}
	if err := CheckName(o.Counter); err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = counter.DefaultTimeout
	}
	if o.MaxCounters <= 0 {
		o.MaxCounters = DefaultMaxCounters
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	conf := &config{connString: url, timeout: o.Timeout}
	if _, err := conf.parse(); err != nil {
		return nil, err
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = firstPause
	pauses.MaxInterval = maxPause
	pauses.Multiplier = 2
	return &Store{
		lister:    newLister(url, o),
		conf:      conf,
		counter:   o.Counter,
		perPath:   o.PerPath,
		timeout:   o.Timeout,
		log:       o.Log,
		report:    report{log: o.Log},
		retention: retention,
		pauses:    pauses,
	}, nil
}

// persist calls f until it succeeds, fails with what is final, or the time is over.
func (s *Store) persist(ctx context.Context, final func(error) bool, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			s.pauses.Reset()
			return nil
		}
		s.recover(ctx)
		if final(err) {
			return err
		}
		if s.pause(ctx) != nil {
			return fmt.Errorf("%w: %w", counter.ErrTimeout, err)
		}
	}
}

// Add adds what the deltas ask for and returns the sum of all counters after it.
// With ErrFull nothing was added; with another error all of it was added once, or
// nothing ever. What the deltas say is good only where err is nil.
func (s *Store) Add(ctx context.Context, deltas []counter.Delta) (sum int64, err error) {
	s.seq++
	b := &batch{seq: s.seq, token: newToken(), deltas: deltas}
	err = s.persist(ctx, final, func(ctx context.Context) error {
		if b.tried {
			s.stats.retries.Add(1)
		}
		b.tried = true
		var err error
		if sum, err = s.attempt(ctx, b); err != nil {
			s.report.failed(err)
			return err
		}
		s.report.taken()
		return nil
	})
	s.account(b, err)
	return sum, err
}

// attempt sends b once, after making whatever is missing for that.
func (s *Store) attempt(ctx context.Context, b *batch) (int64, error) {
	if s.session == nil {
		if err := s.connect(ctx); err != nil {
			return 0, err
		}
	}
	if s.id == "" {
		if err := s.register(ctx); err != nil {
			return 0, err
		}
	}
	if err := s.conf.prepare(ctx, s.session, s.statements()); err != nil {
		return 0, err
	}
	return s.commit(ctx, b)
}

// recover leaves s with a usable session or none.
func (s *Store) recover(ctx context.Context) {
	if s.session != nil && !s.session.reset(ctx) {
		s.drop()
	}
}

// pause waits before the next attempt. It returns an error if ctx ends first.
func (s *Store) pause(ctx context.Context) error {
	t := time.NewTimer(s.pauses.NextBackOff())
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) account(b *batch, err error) {
	if err == nil {
		s.stats.batches.Add(1)
	}
	if !b.ambiguous {
		return
	}
	s.stats.ambiguous.Add(1)
	if err != nil {
		s.stats.abandoned.Add(1)
		return
	}
	s.stats.resolved.Add(1)
	if b.found {
		s.stats.foundApplied.Add(1)
	}
}

// Stats returns the counts so far. It may be called at any time.
func (s *Store) Stats() Stats {
	return Stats{
		Batches:      s.stats.batches.Load(),
		Retries:      s.stats.retries.Load(),
		Connects:     s.stats.connects.Load(),
		IDs:          s.stats.ids.Load(),
		Ambiguous:    s.stats.ambiguous.Load(),
		Resolved:     s.stats.resolved.Load(),
		FoundApplied: s.stats.foundApplied.Load(),
		Abandoned:    s.stats.abandoned.Load(),
	}
}

// Close ends the connection. It removes the bookkeeping row if it can do so
// without waiting long; one that stays is cleaned up by others.
func (s *Store) Close() error {
	s.lister.close()
	st := s.Stats()
	s.log.Debug("the store closes", "batches", st.Batches, "retries", st.Retries, "connects", st.Connects,
		"ambiguous", st.Ambiguous, "abandoned", st.Abandoned, "resolved", st.Resolved, "found_applied", st.FoundApplied)
	if s.session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(s.timeout, time.Second))
	defer cancel()
	if s.id != "" {
		// Whatever of the last batch is still on its way finds no row, and counts
		// nothing.
		if _, err := s.session.exec(ctx, "DELETE FROM counterd_replica WHERE id='"+s.id+"'"); err != nil {
			s.log.Debug("the bookkeeping row stays", "error", err)
		}
	}
	s.drop()
	return nil
}

// connect replaces the session by a new one.
func (s *Store) connect(ctx context.Context) error {
	s.drop()
	session, err := s.conf.connect(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errConnect, err)
	}
	s.stats.connects.Add(1)
	s.session = session
	if s.conf.warned != session.warnings && session.warnings != "" {
		s.log.Warn("PostgreSQL's settings", "warning", session.warnings)
	}
	s.conf.warned = session.warnings
	return nil
}

// drop closes the session, if there is one.
func (s *Store) drop() {
	if s.session != nil {
		s.session.close()
		s.session = nil
	}
}

// commit sends b once over the session.
func (s *Store) commit(ctx context.Context, b *batch) (total int64, err error) {
	s.sweep(ctx)
	if s.session.closed() {
		return 0, errConnect
	}
	// Half of the time that is left: a link that swallows the query, or a server
	// that stands still, then leaves time to go another way.
	left := timeLeft(ctx)
	wait := max(left/2, min(left, shortest))
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	s.buf = s.appendBatch(s.buf[:0], b, wait)
	results, err := s.session.exec(ctx, string(s.buf))
	if err != nil {
		return 0, s.failed(ctx, b, err)
	}
	a, err := decode(results, len(s.statements()))
	switch {
	case errors.Is(err, errNoRow):
		s.id = ""
		if b.ambiguous {
			return 0, errUnknown
		}
		return 0, err
	case err != nil: // not the answer of this batch
		b.ambiguous = true
		s.drop()
		return 0, err
	case a.seq < b.seq:
		b.found = false
		return s.answered(b, a)
	case a.seq == b.seq && a.token == b.token && b.ambiguous:
		b.found = true
		return s.answered(b, a)
	}
	// The row carries the number or token of a batch that isn't this replica's: it
	// has a double with the same memory (a copied virtual machine), or something
	// repeats its messages. This batch may be counted; nothing more goes under
	// this id.
	s.id = ""
	b.ambiguous = true
	return 0, errForeign
}

// answered gives b its totals.
func (s *Store) answered(b *batch, a answer) (int64, error) {
	if !s.perPath {
		for i := range b.deltas {
			b.deltas[i].Total, b.deltas[i].Refused = a.total, false
		}
		return a.total, nil
	}
	s.lister.names.Store(a.names)
	if err := a.settle(b.deltas); err != nil {
		b.ambiguous = true
		s.drop()
		return 0, err
	}
	return a.total, nil
}

// failed says what an attempt's error means, and whether it leaves b ambiguous.
func (s *Store) failed(ctx context.Context, b *batch, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || s.session.closed() {
		// Not to be asked here: pgconn.SafeToRetry. It says yes when a connection
		// is lost while it waits for the answer to a simple query.
		b.ambiguous = true
		return err
	}
	switch {
	case pg.Code == "22003": // numeric_value_out_of_range: only count adds
		return counter.ErrFull
	case pg.Code == "23502": // not_null_violation: count found no row to its liking, so there is no total
		if s.session.reset(ctx) {
			if wrong := s.examine(ctx, b.deltas); wrong != nil {
				return wrong
			}
		}
		return err
	case s.session.prepared && unprepared(pg.Code):
		s.conf.pooled = true
		s.session.prepared = false
		return errUnprepared
	case useless(pg.Code):
		s.drop()
	}
	b.ambiguous = b.ambiguous || unknownOutcome(pg.Code)
	return err
}

// newToken is random, and different in a copy of this process too: should the
// kernel's random numbers have been copied with it, the time hasn't.
func newToken() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.NativeEndian.Uint64(b[:])) ^ time.Now().UnixNano()
}

func timeLeft(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return counter.DefaultTimeout
	}
	return time.Until(deadline)
}
