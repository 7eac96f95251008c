package pgstore

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/counterd/counterd/counter"
)

const (
	// page is how many counters are asked for at once.
	page = 10_000

	// longestList bounds a question, whatever its context allows: a question that
	// takes long keeps the server from clearing up behind the batches.
	longestList = 10 * time.Second
)

// lister shows the counters of a Store, over a connection of its own, which is
// made for the first question and kept. Questions wait for each other.
//
// There is no index by count: each hit would have to move its counter in it, which
// costs more than all else that a hit costs the database. So the largest are found
// by reading all of them.
type lister struct {
	conf    *config
	counter string
	most    int64        // names, over all replicas
	names   atomic.Int64 // as the last batch saw it

	turn   chan *session // holds one; it may be nil
	open   context.Context
	cancel context.CancelFunc // of open
}

func newLister(url string, o Options) *lister {
	l := &lister{
		conf:    &config{connString: url, timeout: o.Timeout},
		counter: o.Counter,
		most:    o.MaxCounters,
		turn:    make(chan *session, 1),
	}
	l.open, l.cancel = context.WithCancel(context.Background())
	l.turn <- nil
	return l
}

// Names is how many counters there were when the last batch was settled, and how
// many there may be.
func (l *lister) Names() (n, most int64) { return l.names.Load(), l.most }

// List returns the counters that q asks for. By count it costs the database a look
// at all of them.
func (l *lister) List(ctx context.Context, q counter.Query) ([]counter.Named, error) {
	ctx, cancel := context.WithTimeout(ctx, longestList)
	defer cancel()
	defer context.AfterFunc(l.open, cancel)()
	var s *session
	select {
	case s = <-l.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("listing the counters: %w", ctx.Err())
	}
	found, s, err := l.ask(ctx, s, q)
	l.turn <- s
	if err != nil {
		return nil, fmt.Errorf("listing the counters: %w", err)
	}
	return found, nil
}

// ask asks over s, or over a new session, and returns the one that can be used
// again.
func (l *lister) ask(ctx context.Context, s *session, q counter.Query) (found []counter.Named, _ *session, err error) {
	sql := "BEGIN READ ONLY;SET LOCAL statement_timeout=" + strconv.FormatInt(max(1, timeLeft(ctx).Milliseconds()), 10) + ";" +
		listSQL(l.counter, q) + ";COMMIT"
	for kept := s != nil; ; kept = false {
		if s == nil {
			if s, err = l.conf.connect(ctx); err != nil {
				return nil, nil, fmt.Errorf("%w: %w", errConnect, err)
			}
		}
		r, err := s.exec(ctx, sql)
		if err == nil {
			found, err = namedRows(r[len(r)-2])
			return found, s, err
		}
		if s.reset(ctx) {
			return nil, s, err
		}
		s.close()
		s = nil
		if !kept || ctx.Err() != nil { // one that was kept may have died long ago
			return nil, nil, err
		}
	}
}

// Each calls f for every counter in order of names, until it returns an error,
// which Each returns. However slow f is, nothing waits for it.
func (l *lister) Each(ctx context.Context, f func(counter.Named) error) error {
	return eachPage(counter.Query{Limit: page}, func(q counter.Query) ([]counter.Named, error) { return l.List(ctx, q) }, f)
}

// eachPage calls f for what list returns, page by page.
func eachPage(q counter.Query, list func(counter.Query) ([]counter.Named, error), f func(counter.Named) error) error {
	for {
		found, err := list(q)
		if err != nil {
			return err
		}
		for _, n := range found {
			if err := f(n); err != nil {
				return err
			}
		}
		if len(found) < q.Limit {
			return nil
		}
		q.After = found[len(found)-1].Name
	}
}

// close ends the connection, and what is asked over it. What is asked later fails.
func (l *lister) close() {
	l.cancel()
	if s := <-l.turn; s != nil {
		s.close()
	}
	l.turn <- nil
}

// inOrder has the planner take a page of names from the index, and not from all of
// the table, sorted: it may know little of a table that has just been filled.
const inOrder = "SET LOCAL enable_sort=off;"

// listSQL is the statement for q, and what belongs in front of it.
func listSQL(name string, q counter.Query) string {
	sql := "SELECT encode(name,'hex'),value FROM counterd_path WHERE counter='" + name + "'"
	if q.Prefix != "" {
		sql += " AND name>=" + octets(q.Prefix)
		if end := after(q.Prefix); end != "" {
			sql += " AND name<" + octets(end)
		}
	}
	if q.ByCount {
		sql += " ORDER BY value DESC,name"
	} else {
		if q.After != "" {
			sql += " AND name>" + octets(q.After)
		}
		sql = inOrder + sql + " ORDER BY name"
	}
	return sql + " LIMIT " + strconv.Itoa(q.Limit)
}

// octets is a name in SQL.
func octets(name string) string { return "decode('" + hex.EncodeToString([]byte(name)) + "','hex')" }

// after is what follows all names that begin with prefix, or "" if nothing does.
func after(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff { // not bytes.TrimRight, which trims code points
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return ""
	}
	b[len(b)-1]++
	return string(b)
}

// namedRows reads rows of a name in hexadecimal and a count.
func namedRows(r *pgconn.Result) ([]counter.Named, error) {
	found := make([]counter.Named, 0, len(r.Rows))
	for _, row := range r.Rows {
		name, err := hex.DecodeString(string(row[0]))
		if err != nil {
			return nil, fmt.Errorf("the database answered with a bad name: %w", err)
		}
		n, err := strconv.ParseInt(string(row[1]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the database answered with a bad number: %w", err)
		}
		found = append(found, counter.Named{Name: string(name), Count: n})
	}
	return found, nil
}
