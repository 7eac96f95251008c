package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/pgtest"
)

// manyOptions are testOptions for a counter of many names.
func manyOptions(t testing.TB) Options {
	o := testOptions(t)
	o.PerPath = true
	return o
}

// deltas makes deltas of names, each with what is added behind it, if anything.
func deltas(nameAndHits ...any) (ds []counter.Delta) {
	for _, v := range nameAndHits {
		switch v := v.(type) {
		case string:
			ds = append(ds, counter.Delta{Name: []byte(v)})
		case int:
			ds[len(ds)-1].Hits = int64(v)
		}
	}
	return ds
}

// totals is what a store said of deltas, as text.
func totals(ds []counter.Delta) string {
	said := make([]string, len(ds))
	for i, d := range ds {
		said[i] = fmt.Sprintf("%s %d", d.Name, d.Total)
		if d.Refused {
			said[i] = fmt.Sprintf("%s refused", d.Name)
		}
	}
	return strings.Join(said, ", ")
}

func mustAddMany(t testing.TB, s *Store, sum int64, want string, nameAndHits ...any) {
	t.Helper()
	ds := deltas(nameAndHits...)
	got, err := s.Add(bg, ds)
	if err != nil {
		t.Fatalf("%v: %v", nameAndHits, err)
	}
	if got != sum || totals(ds) != want {
		t.Fatalf("%v: sum %d, %s; want %d, %s", nameAndHits, got, totals(ds), sum, want)
	}
}

// bookkeeping is what the counter's row says: sum, names, bytes of names.
func bookkeeping(c *pgtest.Cluster) string {
	return c.Query("SELECT value || ' ' || names || ' ' || name_bytes FROM counterd_counter WHERE name = 'default'")
}

func TestBatchOfManyNames(t *testing.T) { bothForms(t, testManyNames) }

func testManyNames(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	s := open(c.URL(), manyOptions(t))
	mustAddMany(t, s, 0, "")
	mustAddMany(t, s, 0, "/a 0", "/a")
	mustAddMany(t, s, 3, "/b 2, /a 1", "/b", 2, "/a", 1)
	mustAddMany(t, s, 7, "/c 0, /a 5, /b 2", "/c", "/a", 4, "/b")
	if got := bookkeeping(c); got != "7 2 4" {
		t.Errorf("sum, names, bytes: %s", got)
	}
	if n, most := s.Names(); n != 2 || most != DefaultMaxCounters {
		t.Errorf("%d of %d names", n, most)
	}
	o := manyOptions(t)
	o.Counter = "other"
	other := open(c.URL(), o)
	mustAddMany(t, other, 1, "/a 1", "/a", 1)
	mustAddMany(t, s, 7, "/a 5", "/a")
	// Deltas are used again by their owner.
	ds := deltas("/a", 1)
	ds[0].Total, ds[0].Refused = 99, true
	if sum, err := s.Add(bg, ds); err != nil || sum != 8 || totals(ds) != "/a 6" {
		t.Errorf("used again: %d, %s, %v", sum, totals(ds), err)
	}
}

// TestMaxCountersHoldsOverAllReplicas: the limit holds over all replicas, and who is refused takes
// nothing from those that exist.
func TestMaxCountersHoldsOverAllReplicas(t *testing.T) { bothForms(t, testMaxCounters) }

func testMaxCounters(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	o := manyOptions(t)
	o.MaxCounters = 3
	a, b := open(c.URL(), o), open(c.URL(), o)
	mustAddMany(t, a, 2, "/1 1, /2 1", "/1", 1, "/2", 1)
	mustAddMany(t, b, 7, "/a refused, /1 2, /9 refused, /2 1, /3 0, / 4", "/a", 2, "/1", 1, "/9", 1, "/2", "/3", "/", 4)
	mustAddMany(t, a, 8, "/a refused, /2 2", "/a", 1, "/2", 1)
	if n, most := a.Names(); n != 3 || most != 3 {
		t.Errorf("%d of %d names", n, most)
	}

	// 64 bytes for each, taken together.
	o.Counter = "long"
	a, b = open(c.URL(), o), open(c.URL(), o)
	long := strings.Repeat("x", 150)
	mustAddMany(t, a, 1, long+" 1", long, 1)
	mustAddMany(t, b, 2, long+"y refused, "+strings.Repeat("y", 42)+" 1", long+"y", 1, strings.Repeat("y", 42), 1)
	mustAddMany(t, a, 2, "z refused", "z", 1)
}

// TestRetriedRefusal: a batch with refused names is counted, its answer is lost,
// and meanwhile there is room. The retry says what the batch was told.
func TestRetriedRefusal(t *testing.T) { bothForms(t, testRetriedRefusal) }

func testRetriedRefusal(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	cut := true
	p := pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		if !isBatch(sql) || !strings.Contains(sql, "'{7,7,0,7}'") {
			return pgtest.Pass
		}
		if cut {
			cut = false
			return pgtest.CutUnanswered
		}
		c.Exec("DELETE FROM counterd_path WHERE name = '/b'; UPDATE counterd_path SET value = 50; UPDATE counterd_counter SET names = 1, value = 50")
		return pgtest.Pass
	})
	o := manyOptions(t)
	o.MaxCounters = 2
	s := open(pgtest.URL([]string{p.Addr()}, pgtest.Superuser), o)
	mustAddMany(t, s, 3, "/a 1, /b 2", "/a", 1, "/b", 2)
	mustAddMany(t, s, 10, "/z refused, /a 8, /b 2, /b! refused", "/z", 7, "/a", 7, "/b", "/b!", 7)
	if st := s.Stats(); st.FoundApplied != 1 {
		t.Errorf("%+v", st)
	}
	if got := c.Query("SELECT string_agg(encode(name,'escape')||value,' ') FROM counterd_path"); got != "/a50" {
		t.Errorf("the retry counted: %s", got)
	}
}

// TestFaultAtEveryStageOfManyNames cuts, loses and delays at each stage of a batch of many names.
func TestFaultAtEveryStageOfManyNames(t *testing.T) { bothForms(t, testManyStages) }

func testManyStages(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	var mu sync.Mutex
	next := pgtest.Pass
	p := pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if !isBatch(sql) {
			return pgtest.Pass
		}
		defer func() { next = pgtest.Pass }()
		return next
	})
	o := manyOptions(t)
	o.Timeout = 4 * time.Second
	o.MaxCounters = 100
	s := open(pgtest.URL([]string{p.Addr()}, pgtest.Superuser), o)
	names := make([]any, 0, 240)
	for i := range 120 {
		names = append(names, fmt.Sprintf("/%03d", i), 2)
	}
	round := int64(0)
	for f := range pgtest.Stages {
		for range 2 {
			mu.Lock()
			next = f
			mu.Unlock()
			round++
			ds := deltas(names...)
			sum, err := s.Add(bg, ds)
			if err != nil || sum != round*200 {
				t.Fatalf("%v: sum %d, %v; want %d", f, sum, err, round*200)
			}
			for i, d := range ds {
				if d.Refused != (i >= 100) || i < 100 && d.Total != round*2 {
					t.Fatalf("%v: %+v", f, d)
				}
			}
		}
	}
	if st := s.Stats(); st.Abandoned != 0 || st.FoundApplied < 2 {
		t.Errorf("%+v", st)
	}
	if got := bookkeeping(c); got != fmt.Sprintf("%d 100 400", round*200) {
		t.Errorf("sum, names, bytes: %s", got)
	}
}

// TestNamesMayHoldAnyOctet: a name may be anything.
func TestNamesMayHoldAnyOctet(t *testing.T) { bothForms(t, testAllOctets) }

func testAllOctets(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	s := open(c.URL(), manyOptions(t))
	var names []string
	for b := range 256 {
		names = append(names, string([]byte{byte(b)}))
	}
	names = append(names, "/x'); DROP TABLE counterd_path; --", "$1", `\x41`, "NULL", "{}", `""`, "/a,b", "/é", "\xff\x00\xfe",
		strings.Repeat("\x00", counter.MaxName), strings.Repeat("\xff", counter.MaxName))
	ds := make([]counter.Delta, len(names))
	for i, n := range names {
		ds[i] = counter.Delta{Name: []byte(n), Hits: int64(i + 1)}
	}
	if _, err := s.Add(bg, ds); err != nil {
		t.Fatal(err)
	}
	var each []counter.Named
	if err := s.Each(bg, func(n counter.Named) error { each = append(each, n); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(each) != len(names) || !slices.IsSortedFunc(each, func(a, b counter.Named) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("Each shows %d names, want %d, in order", len(each), len(names))
	}
	for _, e := range each {
		if i := slices.Index(names, e.Name); i+1 != int(e.Count) {
			t.Errorf("%q has %d, want %d", e.Name, e.Count, i+1)
		}
		if found, err := s.List(bg, counter.Query{Prefix: e.Name, Limit: 1}); err != nil || len(found) != 1 || found[0] != e {
			t.Errorf("by its beginning: %v, %v", found, err)
		}
	}
}

// TestNoCounterPassesTheEnd: neither a counter nor the sum passes the end.
func TestNoCounterPassesTheEnd(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	if err := byHand(c.URL(), testOptions(t)).Load(bg, []counter.Named{{Name: "/a", Count: math.MaxInt64 - 10}, {Name: "/b", Count: 5}}); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, c.URL(), manyOptions(t))
	for range 2 {
		for _, over := range [][]any{{"/a", 6}, {"/new", 6}, {"/a", 3, "/b", 3}} {
			if _, err := s.Add(bg, deltas(over...)); !errors.Is(err, counter.ErrFull) {
				t.Errorf("%v: %v, want ErrFull", over, err)
			}
		}
		mustAddMany(t, s, math.MaxInt64-5, "/b 5, /new 0", "/b", "/new")
	}
	mustAddMany(t, s, math.MaxInt64, "/b 8, /new 2", "/b", 3, "/new", 2)
	if err := byHand(c.URL(), Options{Counter: "x"}).Load(bg, []counter.Named{{Name: "/a", Count: math.MaxInt64}, {Name: "/b", Count: 1}}); !errors.Is(err, counter.ErrFull) {
		t.Errorf("Load of more: %v, want ErrFull", err)
	}
}

// TestReadOfAllShowsOneMoment: while others count, a read of all names and the sum shows one
// moment, and no batch is ever sent again because of a deadlock.
func TestReadOfAllShowsOneMoment(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	names := make([]any, 50)
	for i := range names {
		names[i] = fmt.Sprintf("/%02d", i)
	}
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	writers := []*Store{mustOpen(t, c.URL(), manyOptions(t)), mustOpen(t, c.URL(), manyOptions(t)), mustOpen(t, c.URL(), manyOptions(t))}
	for i, s := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var ds []counter.Delta
				for k := range 20 { // another order each time
					at := (n*7 + k*(2*i+1)) % len(names)
					if !slices.ContainsFunc(ds, func(d counter.Delta) bool { return string(d.Name) == names[at] }) {
						ds = append(ds, deltas(names[at], 1)...)
					}
				}
				if _, err := s.Add(bg, ds); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reader := mustOpen(t, c.URL(), manyOptions(t))
	before := int64(0)
	for range 200 {
		ds := deltas(names...)
		sum, err := reader.Add(bg, ds)
		if err != nil {
			t.Fatal(err)
		}
		parts := int64(0)
		for _, d := range ds {
			parts += d.Total
		}
		if parts != sum || sum < before {
			t.Fatalf("sum %d, its parts %d, before %d", sum, parts, before)
		}
		before = sum
	}
	cancel()
	wg.Wait()
	if before == 0 {
		t.Error("nothing was counted")
	}
	for _, s := range append(writers, reader) {
		if st := s.Stats(); st.Retries != 0 {
			t.Errorf("%d attempts were repeated", st.Retries)
		}
	}
}

// TestBatchNeverReadsTheWholeTable: a batch never reads the whole table, also not from a plan that was
// made when the table was small.
func TestBatchNeverReadsTheWholeTable(t *testing.T) { bothForms(t, testByIndex) }

func testByIndex(t *testing.T, open func(string, Options) *Store) {
	c := pgtest.New(t)
	s := open(c.URL(), manyOptions(t))
	for i := range 20 {
		if _, err := s.Add(bg, deltas("/a", 1, "/b", 1, fmt.Sprint(i), 1)); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			c.Exec("ANALYZE counterd_path")
		}
	}
	s.drop() // the server then publishes what the session has done
	c.Await("SELECT 1 FROM pg_stat_user_tables WHERE relname = 'counterd_path' AND idx_scan >= 60")
	if got := c.Query("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'counterd_path'"); got != "1" { // ANALYZE's is none, the primary key's is
		t.Errorf("%s sequential scans", got)
	}
	if _, err := s.Add(bg, nil); err != nil {
		t.Fatal(err)
	}
}

// TestOneCountAndManyAreToldApart: one count of all requests and a count for each path are not
// taken for each other.
func TestOneCountAndManyAreToldApart(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	all, path := testOptions(t), manyOptions(t)
	all.Counter, path.Counter = "all", "path"
	mustAdd(t, mustOpen(t, c.URL(), all), 1, 1)
	s := mustOpen(t, c.URL(), path)
	mustAddMany(t, s, 1, "/ 1", "/", 1)

	all.Counter, path.Counter = path.Counter, all.Counter
	if _, err := Open(bg, c.URL(), all); err == nil || !strings.Contains(err.Error(), "a count for each path") {
		t.Errorf("--per=all on a counter with paths: %v", err)
	}
	if _, err := Open(bg, c.URL(), path); err == nil || !strings.Contains(err.Error(), "one count of all requests") {
		t.Errorf("--per=path on a counter without: %v", err)
	}
	// It may happen to a running one, too.
	c.Exec("UPDATE counterd_counter SET names = NULL WHERE name = 'path'")
	if _, err := s.Add(bg, deltas("/", 1)); err == nil || !strings.Contains(err.Error(), "one count of all requests") {
		t.Errorf("a batch of paths on a counter without: %v", err)
	}
	c.Exec("UPDATE counterd_counter SET names = 1 WHERE name = 'path'")
	mustAddMany(t, s, 2, "/ 2", "/", 1)
}

// TestNegativeCounterIsNotServed: a value that is no count is not served, and not added to.
func TestNegativeCounterIsNotServed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s := mustOpen(t, c.URL(), manyOptions(t))
	mustAddMany(t, s, 3, "/a 1, /b 2", "/a", 1, "/b", 2)
	c.Exec("UPDATE counterd_path SET value = -7 WHERE name = '/a'")
	for _, batch := range [][]any{{"/a"}, {"/b", 1, "/a", 10}} {
		if _, err := s.Add(bg, deltas(batch...)); err == nil || !strings.Contains(err.Error(), `"/a"`) || !strings.Contains(err.Error(), "holds -7") {
			t.Errorf("%v: %v", batch, err)
		}
	}
	mustAddMany(t, s, 4, "/b 3", "/b", 1)
	c.Exec("UPDATE counterd_counter SET value = -1")
	if _, err := s.Add(bg, nil); err == nil || !strings.Contains(err.Error(), "holds -1") {
		t.Errorf("a negative sum: %v", err)
	}
	c.Exec("DELETE FROM counterd_counter")
	if _, err := s.Add(bg, deltas("/b", 1)); err == nil || !strings.Contains(err.Error(), "has gone") {
		t.Errorf("no sum: %v", err)
	}
	if _, err := Open(bg, c.URL(), manyOptions(t)); err == nil || !strings.Contains(err.Error(), "has gone") {
		t.Errorf("Open: %v", err)
	}
}

func TestListFindsAndOrders(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := manyOptions(t)
	var load []counter.Named
	for i := range 25_000 { // more than two pages
		load = append(load, counter.Named{Name: fmt.Sprintf("/n/%05d", i), Count: int64(i % 1000)})
	}
	load = append(load, counter.Named{Name: "/m\xff\xff", Count: 7}, counter.Named{Name: "\xff\xffz", Count: 5000})
	if err := byHand(c.URL(), o).Load(bg, load); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, c.URL(), o)
	if n, _ := s.Names(); n != int64(len(load)) {
		t.Errorf("%d names, want %d", n, len(load))
	}
	for _, test := range []struct {
		q    counter.Query
		want string
	}{
		{counter.Query{Limit: 2}, `[{/m��7} {/n/00000 0}]`},
		{counter.Query{Limit: 2, After: "/n/00000"}, "[{/n/00001 1} {/n/00002 2}]"},
		{counter.Query{Limit: 9, Prefix: "/n/0123"}, "[{/n/01230 230} {/n/01231 231} {/n/01232 232} {/n/01233 233} {/n/01234 234} {/n/01235 235} {/n/01236 236} {/n/01237 237} {/n/01238 238}]"},
		{counter.Query{Limit: 9, Prefix: "/n/0123", After: "/n/01237"}, "[{/n/01238 238} {/n/01239 239}]"},
		{counter.Query{Limit: 9, Prefix: "/o"}, "[]"},
		{counter.Query{Limit: 3, ByCount: true}, "[{\xff\xffz 5000} {/n/00999 999} {/n/01999 999}]"},
		{counter.Query{Limit: 2, ByCount: true, Prefix: "/n/1"}, "[{/n/10999 999} {/n/11999 999}]"},
		{counter.Query{Limit: 5, Prefix: "\xff"}, "[{\xff\xffz 5000}]"},
		{counter.Query{Limit: 5, Prefix: "/m\xff"}, "[{/m\xff\xff 7}]"},
	} {
		found, err := s.List(bg, test.q)
		if got := fmt.Sprint(found); err != nil || got != strings.Replace(test.want, "��", "\xff\xff ", 1) {
			t.Errorf("%+v: %s, %v; want %s", test.q, got, err, test.want)
		}
	}
	slices.SortFunc(load, func(a, b counter.Named) int { return strings.Compare(a.Name, b.Name) })
	var each []counter.Named
	if err := s.Each(bg, func(n counter.Named) error { each = append(each, n); return nil }); err != nil || !slices.Equal(each, load) {
		t.Errorf("Each: %v, %d of %d", err, len(each), len(load))
	}
	enough := errors.New("enough")
	if err := s.Each(bg, func(counter.Named) error { return enough }); err != enough {
		t.Errorf("Each ended with %v", err)
	}
}

// TestListHoldsUpNoBatch: lists are asked over a connection of their own, which heals, is
// shared, and ends with the store; and a list that waits holds up no batch.
func TestListHoldsUpNoBatch(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	s, err := Open(bg, c.URL(), manyOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	mustAddMany(t, s, 1, "/ 1", "/", 1)
	list := func() {
		t.Helper()
		if found, err := s.List(bg, counter.Query{Limit: 5}); err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { list() })
	}
	wg.Wait()
	if got := c.Query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counterd'"); got != "2" {
		t.Errorf("%s connections, want 2", got)
	}
	c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counterd'")
	list()
	mustAddMany(t, s, 2, "/ 2", "/", 1)

	// Who is slow with what Each shows holds up neither batches nor lists.
	release := make(chan struct{})
	each := make(chan error, 1)
	go func() {
		each <- s.Each(bg, func(counter.Named) error { <-release; return nil })
	}()
	mustAddMany(t, s, 3, "/ 3", "/", 1)
	list()
	close(release)
	if err := <-each; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := s.List(ctx, counter.Query{Limit: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(bg, counter.Query{Limit: 1}); err == nil {
		t.Error("a list of a closed store")
	}
	c.Await("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'counterd')")
}

// TestChangesWhileNoReplicaRuns: what is done to a counter that no replica uses.
func TestChangesWhileNoReplicaRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	o := manyOptions(t)
	contents := func() string {
		t.Helper()
		var all []string
		if err := byHand(c.URL(), o).Each(bg, func(n counter.Named) error { all = append(all, fmt.Sprint(n.Name, " ", n.Count)); return nil }); err != nil {
			t.Fatal(err)
		}
		sum, err := byHand(c.URL(), o).Show(bg)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, ", ") + " = " + fmt.Sprint(sum)
	}
	if err := byHand(c.URL(), o).Each(bg, nil); err == nil {
		t.Error("List of nothing: no error")
	}
	if err := byHand(c.URL(), o).Drop(bg, []string{"/a"}); err == nil || !strings.Contains(err.Error(), "there is no counter") {
		t.Errorf("Drop of nothing: %v", err)
	}
	if err := byHand(c.URL(), o).Load(bg, []counter.Named{{Name: "/a", Count: 1}, {Name: "/b", Count: 2}, {Name: "/a", Count: 5}}); err != nil {
		t.Fatal(err)
	}
	if got := contents(); got != "/a 5, /b 2 = 7" {
		t.Errorf("after Load: %s", got)
	}
	if err := byHand(c.URL(), o).Load(bg, []counter.Named{{Name: "/c", Count: 3}, {Name: "/b", Count: -1}}); err == nil {
		t.Error("Load of a negative count: no error")
	}
	if err := byHand(c.URL(), o).Load(bg, []counter.Named{{Name: strings.Repeat("x", counter.MaxName+1), Count: 3}}); err == nil {
		t.Error("Load of a name that is too long: no error")
	}
	if err := byHand(c.URL(), o).Load(bg, []counter.Named{{Name: "/b", Count: 0}, {Name: "/c", Count: 3}}); err != nil {
		t.Fatal(err)
	}
	if got := contents(); got != "/a 5, /b 0, /c 3 = 8" {
		t.Errorf("after a second Load: %s", got)
	}
	if err := byHand(c.URL(), o).Drop(bg, []string{"/a", "/nowhere"}); err == nil || !strings.Contains(err.Error(), `"/nowhere"`) {
		t.Errorf("Drop of a name that doesn't exist: %v", err)
	}
	if got := contents(); got != "/a 5, /b 0, /c 3 = 8" {
		t.Errorf("after a Drop that failed: %s", got)
	}
	if err := byHand(c.URL(), o).Drop(bg, []string{"/a", "/a"}); err != nil {
		t.Fatal(err)
	}
	if got := contents(); got != "/b 0, /c 3 = 3" {
		t.Errorf("after Drop: %s", got)
	}
	if got := bookkeeping(c); got != "3 2 4" {
		t.Errorf("sum, names, bytes: %s", got)
	}
	for name, want := range map[string]int64{"/c": 3, "/b": 0, "/a": -1} {
		if got, exists, err := byHand(c.URL(), o).Count(bg, name); got != max(0, want) || exists != (want >= 0) || err != nil {
			t.Errorf("Count(%s) = %d, %t, %v", name, got, exists, err)
		}
	}
	if err := byHand(c.URL(), o).Set(bg, 5); err == nil || !strings.Contains(err.Error(), "a count for each path") {
		t.Errorf("Set: %v", err)
	}

	s := mustOpen(t, c.URL(), o)
	mustAddMany(t, s, 4, "/a 1", "/a", 1)
	for what, err := range map[string]error{
		"Load": byHand(c.URL(), o).Load(bg, []counter.Named{{Name: "/a", Count: 9}}),
		"Drop": byHand(c.URL(), o).Drop(bg, []string{"/a"}),
	} {
		if err == nil || !strings.Contains(err.Error(), "stop the replicas") {
			t.Errorf("%s under a running replica: %v", what, err)
		}
	}
	// One that is idle is overlooked, but what it has sent is not to count any more.
	c.Exec("UPDATE counterd_replica SET seen = now() - interval '2 minutes'")
	if err := byHand(c.URL(), o).Load(bg, []counter.Named{{Name: "/a", Count: 9}}); err != nil {
		t.Fatal(err)
	}
	mustAddMany(t, s, 13, "/a 10", "/a", 1)
	if got := s.Stats().IDs; got != 2 {
		t.Errorf("%d ids after Load, want 2", got)
	}

	single := testOptions(t)
	single.Counter = "single"
	if err := byHand(c.URL(), single).Set(bg, 5); err != nil {
		t.Fatal(err)
	}
	if err := byHand(c.URL(), single).Load(bg, []counter.Named{{Name: "/a", Count: 9}}); err == nil || !strings.Contains(err.Error(), "one count of all requests") {
		t.Errorf("Load into a single counter: %v", err)
	}
	if err := byHand(c.URL(), single).Each(bg, nil); err == nil || !strings.Contains(err.Error(), "one count of all requests") {
		t.Errorf("List of a single counter: %v", err)
	}
}

// TestTablesOfVersion1AreUpgraded: the tables of version 1, with a count that a replica of that version
// goes on counting, become today's, whoever comes first of several.
func TestTablesOfVersion1AreUpgraded(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	c.Exec(migrations[0])
	c.Exec("INSERT INTO counterd_counter VALUES ('default', 41); INSERT INTO counterd_replica (id, counter, host) VALUES ('00000000-0000-0000-0000-000000000001', 'default', 'old')")
	if v, err := byHand(c.URL(), testOptions(t)).Show(bg); v != 41 || err != nil {
		t.Errorf("Show before the upgrade: %d, %v", v, err)
	}
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	counted := int64(0)
	wg.Go(func() { // as version 1 did
		for n := int64(1); ctx.Err() == nil; n++ {
			_, err := c.TryQuery(fmt.Sprintf(`BEGIN; SELECT seq FROM counterd_replica WHERE host = 'old' FOR UPDATE;
				WITH c AS (UPDATE counterd_counter SET value = value + 1 WHERE name = 'default' AND EXISTS (SELECT 1 FROM counterd_replica WHERE host = 'old' AND seq < %[1]d) RETURNING value)
				UPDATE counterd_replica SET total = CASE WHEN seq < %[1]d THEN (SELECT value FROM c) ELSE total END, seq = %[1]d, attempts = attempts + 1, seen = now() WHERE host = 'old'; COMMIT`, n))
			if err != nil {
				t.Errorf("a replica of version 1: %v", err)
				return
			}
			counted++
		}
	})
	c.Await("SELECT 1 FROM counterd_counter WHERE value > 45")
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			o := testOptions(t)
			if i%2 == 1 {
				o.PerPath, o.Counter = true, "paths"
			}
			s, err := Open(bg, c.URL(), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Add(bg, []counter.Delta{{Name: []byte(strings.Repeat("/", i%2)), Hits: 1}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	cancel()
	wg.Wait()
	mustAdd(t, mustOpen(t, c.URL(), testOptions(t)), 0, 41+3+counted)
	o := manyOptions(t)
	o.Counter = "paths"
	mustAddMany(t, mustOpen(t, c.URL(), o), 2, "/ 2", "/")
	// The count of version 1 is known to have been there.
	c.Exec("DELETE FROM counterd_counter WHERE name = 'default'")
	if _, err := Open(bg, c.URL(), testOptions(t)); err == nil || !strings.Contains(err.Error(), "has gone") {
		t.Errorf("after the count was deleted: %v", err)
	}
}

// TestUpgradeTellsTheSQLToNonOwners: a role that may not change the tables is told the SQL.
func TestUpgradeTellsTheSQLToNonOwners(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	c.Exec("CREATE ROLE small LOGIN; " + migrations[0] + "GRANT SELECT ON counterd_schema TO small; GRANT SELECT, INSERT, UPDATE ON counterd_counter TO small; GRANT SELECT, INSERT, UPDATE, DELETE ON counterd_replica TO small")
	url := pgtest.URL([]string{c.Addr()}, "small")
	_, err := Open(bg, url, manyOptions(t))
	if err == nil {
		t.Fatal("no error")
	}
	_, sql, ok := strings.Cut(err.Error(), "run:\n")
	if !ok || strings.Contains(sql, "version bigint PRIMARY KEY") {
		t.Fatalf("want the SQL of the upgrade, and no more, in: %v", err)
	}
	c.Exec(sql)
	s := mustOpen(t, url, manyOptions(t))
	mustAddMany(t, s, 1, "/ 1", "/", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := byHand(url, testOptions(t)).Drop(bg, []string{"/"}); err != nil {
		t.Fatal(err)
	}
}

// TestDocsHaveTheSQL: the page for operators has the SQL that counterd runs.
func TestDocsHaveTheSQL(t *testing.T) {
	page, err := os.ReadFile("../../docs/postgresql.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range append(slices.Clone(migrations), fmt.Sprintf(grants, "counterd")) {
		if !strings.Contains(string(page), sql) {
			t.Errorf("docs/postgresql.md lacks:\n%s", sql)
		}
	}
}
