package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/counterd/counterd/counter"
)

// ByHand works on a counter that no replica uses, or with names on many. A counter
// that has a name for each path is made by Load, one that has none by Set.
type ByHand struct {
	URL string
	Options
}

// liveFor is for how long after its last batch a replica counts as running.
const liveFor = time.Minute

// errUncertain: the connection broke while a change was committed.
var errUncertain = errors.New("whether it was done is not known; doing it again does no harm")

// with calls f with a store that is connected, and ends the connection.
func (h ByHand) with(ctx context.Context, f func(ctx context.Context, s *Store) error) error {
	s, err := begin(ctx, h.URL, h.Options, f)
	if err == nil {
		s.drop()
	}
	return err
}

// Show returns the value of a counter, or the sum of its names, durable like an
// Add of 0. It makes nothing: tables or a counter that don't exist are an error.
func (h ByHand) Show(ctx context.Context) (value int64, err error) {
	err = h.with(ctx, func(ctx context.Context, s *Store) error {
		value, err = s.show(ctx)
		return err
	})
	return value, err
}

// Count is Show for one of a counter's names, and whether it exists.
func (h ByHand) Count(ctx context.Context, name string) (value int64, exists bool, err error) {
	err = h.with(ctx, func(ctx context.Context, s *Store) error {
		if _, err := s.showMany(ctx); err != nil {
			return err
		}
		r, err := s.session.exec(ctx, "SELECT value FROM counterd_path WHERE counter='"+s.counter+"' AND name="+octets(name))
		if err != nil {
			return fmt.Errorf("reading the counter: %w", err)
		}
		if exists = len(r[0].Rows) > 0; exists {
			value, err = number(r[0], 0)
		}
		return err
	})
	return value, exists, err
}

// show commits a write, so that all that it sees is durable, for the same reason
// as a read of the counter does.
func (s *Store) show(ctx context.Context) (int64, error) {
	c, err := s.look(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := s.session.exec(ctx, "BEGIN;"+demand+"UPDATE counterd_counter SET value=value WHERE name='"+s.counter+"';COMMIT"); err != nil {
		return 0, fmt.Errorf("reading the counter: %w", err)
	}
	return c.value, nil
}

func (s *Store) showMany(ctx context.Context) (sum int64, err error) {
	if sum, err = s.show(ctx); err != nil {
		return 0, err
	}
	s.perPath = true
	return sum, s.examine(ctx, nil)
}

// Each calls f for each of a counter's names, in order, as they are at one moment,
// durable as what Show returns. An error of f ends it.
func (h ByHand) Each(ctx context.Context, f func(counter.Named) error) error {
	s, err := begin(ctx, h.URL, h.Options, func(ctx context.Context, s *Store) error {
		if _, err := s.showMany(ctx); err != nil {
			return err
		}
		_, err := s.session.exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;SET LOCAL statement_timeout=0")
		return err
	})
	if err != nil {
		return err
	}
	defer s.drop()
	return eachPage(counter.Query{Limit: page}, func(q counter.Query) ([]counter.Named, error) {
		r, err := s.session.exec(ctx, listSQL(s.counter, q))
		if err != nil {
			return nil, fmt.Errorf("listing the counters: %w", err)
		}
		return namedRows(r[len(r)-1])
	}, f)
}

// Set gives a counter a value, making tables and counter where needed. It
// refuses while a replica uses the counter: one that has counted or read within
// the last minute and wasn't closed. A replica that it overlooks because it was
// idle stays exact: its bookkeeping row is removed in the same transaction, so
// that nothing from before can be counted on top of the new value.
func (h ByHand) Set(ctx context.Context, value int64) error {
	if err := checkValue(value); err != nil {
		return err
	}
	return h.with(ctx, func(ctx context.Context, s *Store) error {
		if err := s.migrate(ctx); err != nil {
			return err
		}
		if err := s.alone(ctx, "NULL"); err != nil {
			return err
		}
		_, err := s.session.exec(ctx, "UPDATE counterd_counter SET value="+strconv.FormatInt(value, 10)+" WHERE name='"+s.counter+"';COMMIT")
		if err != nil {
			return fmt.Errorf("setting the counter: %w", err)
		}
		return nil
	})
}

// alone begins a transaction in which nobody else uses the counter, with its row
// locked, made if it is missing. With names "NULL" it is to be one count of all
// requests, with "0" one that has names.
func (s *Store) alone(ctx context.Context, names string) error {
	r, err := s.session.exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED;"+demand+"SELECT host FROM counterd_replica WHERE counter='"+s.counter+
		"' AND seen>now()-interval '"+strconv.Itoa(int(liveFor.Seconds()))+" seconds' LIMIT 1")
	if err != nil {
		return fmt.Errorf("looking for running replicas: %w", err)
	}
	if live := r[len(r)-1].Rows; len(live) > 0 {
		return refuse("a replica on %q used counter %q within the last %v; stop the replicas first", live[0][0], s.counter, liveFor)
	}
	r, err = s.session.exec(ctx, "DELETE FROM counterd_replica WHERE counter='"+s.counter+
		"';INSERT INTO counterd_known (name) VALUES ('"+s.counter+"') ON CONFLICT DO NOTHING"+
		";INSERT INTO counterd_counter (name,value,names,name_bytes) VALUES ('"+s.counter+"',0,"+names+","+names+") ON CONFLICT (name) DO NOTHING"+
		";SELECT names IS NOT NULL FROM counterd_counter WHERE name='"+s.counter+"' FOR UPDATE")
	if err != nil {
		return fmt.Errorf("locking the counter: %w", err)
	}
	rows := r[len(r)-1].Rows
	if len(rows) != 1 || len(rows[0]) != 1 {
		return errors.New("locking the counter: unexpected answer")
	}
	switch many := string(rows[0][0]) == "t"; {
	case many && names == "NULL":
		return refuse("counter %q has a count for each path: name one", s.counter)
	case !many && names != "NULL":
		return refuse("counter %q is one count of all requests, without names; use another --counter", s.counter)
	}
	return nil
}

// Load gives each of the named counters its count, all or none, making tables and
// counters where needed. If a name comes twice, the last one holds. The limit on
// the number of names is not for it. It refuses while a replica uses the counter,
// as Set does. Options.Timeout bounds its beginning only.
func (h ByHand) Load(ctx context.Context, counters []counter.Named) error {
	for _, c := range counters {
		if err := checkValue(c.Count); err != nil {
			return fmt.Errorf("%q: %w", c.Name, err)
		}
		if len(c.Name) > counter.MaxName {
			return fmt.Errorf("a name of %d bytes: %d are allowed", len(c.Name), counter.MaxName)
		}
	}
	return h.change(ctx, true, func(s *Store) error {
		for chunk := range slices.Chunk(lastOfEach(counters), page) {
			values := make([]counter.Delta, len(chunk))
			for i, c := range chunk {
				values[i] = counter.Delta{Name: []byte(c.Name), Hits: c.Count}
			}
			_, err := s.session.exec(ctx, "INSERT INTO counterd_path (counter,name,value) SELECT '"+s.counter+"',decode(n,'hex'),v FROM unnest("+
				string(appendNames(nil, values))+"::text[],"+string(appendHits(nil, values))+"::bigint[]) AS t(n,v)"+
				" ON CONFLICT (counter,name) DO UPDATE SET value=EXCLUDED.value")
			if err != nil {
				return fmt.Errorf("setting the counters: %w", err)
			}
		}
		return nil
	})
}

// lastOfEach drops all but the last of those with the same name.
func lastOfEach(counters []counter.Named) []counter.Named {
	sorted := slices.Clone(counters)
	slices.SortStableFunc(sorted, func(a, b counter.Named) int { return strings.Compare(a.Name, b.Name) })
	kept := sorted[:0]
	for i, c := range sorted {
		if i+1 == len(sorted) || sorted[i+1].Name != c.Name {
			kept = append(kept, c)
		}
	}
	return kept
}

// Drop forgets the named counters, all or none: a later hit on one begins at 1. A
// name that doesn't exist is an error. It refuses while a replica uses the counter,
// as Set does. Options.Timeout bounds its beginning only.
func (h ByHand) Drop(ctx context.Context, names []string) error {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	return h.change(ctx, false, func(s *Store) error {
		for chunk := range slices.Chunk(names, 10*page) { // each may read the whole table
			values := make([]counter.Delta, len(chunk))
			for i, n := range chunk {
				values[i].Name = []byte(n)
			}
			r, err := s.session.exec(ctx, "DELETE FROM counterd_path WHERE counter='"+s.counter+
				"' AND name IN (SELECT decode(n,'hex') FROM unnest("+string(appendNames(nil, values))+"::text[]) AS t(n)) RETURNING encode(name,'hex'),value")
			if err != nil {
				return fmt.Errorf("dropping the counters: %w", err)
			}
			dropped, err := namedRows(r[0])
			if err != nil {
				return err
			}
			if len(dropped) < len(chunk) {
				return missing(chunk, dropped)
			}
		}
		return nil
	})
}

// missing says which of names wasn't found.
func missing(names []string, found []counter.Named) error {
	there := make(map[string]bool, len(found))
	for _, f := range found {
		there[f.Name] = true
	}
	for _, n := range names {
		if !there[n] {
			return fmt.Errorf("there is no counter %q; nothing was dropped", n)
		}
	}
	return nil
}

// change runs f in a transaction that has the counter for itself, and puts its row
// right after it: the sum, and how many and how long the names are. With anew a
// missing counter is made.
func (h ByHand) change(ctx context.Context, anew bool, f func(s *Store) error) error {
	s, err := begin(ctx, h.URL, h.Options, func(ctx context.Context, s *Store) error {
		if err := s.migrate(ctx); err != nil {
			return err
		}
		if !anew {
			if _, err := s.look(ctx); err != nil {
				return err
			}
		}
		if err := s.alone(ctx, "0"); err != nil {
			return err
		}
		_, err := s.session.exec(ctx, "SET LOCAL statement_timeout=0")
		return err
	})
	if err != nil {
		return err
	}
	defer s.drop()
	if err := f(s); err != nil {
		return err
	}
	_, err = s.session.exec(ctx, "UPDATE counterd_counter SET value=n.value,names=n.names,name_bytes=n.bytes FROM"+
		" (SELECT coalesce(sum(value),0) AS value,count(*) AS names,coalesce(sum(octet_length(name)),0) AS bytes FROM counterd_path WHERE counter='"+s.counter+"') AS n"+
		" WHERE counterd_counter.name='"+s.counter+"'")
	if code(err) == "22003" { // numeric_value_out_of_range
		return fmt.Errorf("all counts together: %w: at most %d", counter.ErrFull, int64(math.MaxInt64))
	}
	if err != nil {
		return fmt.Errorf("adding up the counters: %w", err)
	}
	if _, err := s.session.exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("committing: %w: %w", errUncertain, err)
	}
	return nil
}

func checkValue(value int64) error {
	if value < 0 {
		return fmt.Errorf("a count of %d: it is 0 to %d", value, int64(math.MaxInt64))
	}
	return nil
}
