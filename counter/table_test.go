package counter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/counterd/counterd/internal/race"
)

// A Table does what a map does, within its bounds.
func TestTableIsABoundedMap(t *testing.T) {
	race.Spare(t)
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(0, 40).Draw(t, "most")
		table := NewTable(most)
		model := map[string]int64{}
		var made []string
		sum, length := int64(0), int64(0)
		name := rapid.OneOf(
			rapid.StringMatching(`/[a-e]{0,2}`),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 90), func(b []byte) string { return string(b) }),
			rapid.Just(strings.Repeat("x", MaxName)))
		count := rapid.OneOf(rapid.Int64Range(0, 9), rapid.Int64Range(0, math.MaxInt64))
		grow := func(n string) {
			if _, ok := model[n]; !ok {
				made, length = append(made, n), length+int64(len(n))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				n, hits := name.Draw(t, "name"), count.Draw(t, "hits")
				_, known := model[n]
				total, want := model[n], error(nil)
				switch {
				case hits == 0:
				case hits > math.MaxInt64-sum:
					want = ErrFull
				case !known && (int64(len(model)) >= most || length+int64(len(n)) > 64*most):
					want = ErrTooMany
				default:
					total += hits
					grow(n)
					model[n], sum = total, sum+hits
				}
				if got, err := table.Add([]byte(n), hits); got != total || err != want {
					t.Fatalf("Add(%q, %d) = %d, %v; want %d, %v", n, hits, got, err, total, want)
				}
			},
			"set": func(t *rapid.T) {
				n, to := name.Draw(t, "name"), count.Draw(t, "to")
				want := error(nil)
				if to > math.MaxInt64-(sum-model[n]) {
					want = ErrFull
				}
				if err := table.Set([]byte(n), to); err != want {
					t.Fatalf("Set(%q, %d): %v, want %v", n, to, err, want)
				}
				if want == nil {
					grow(n)
					sum += to - model[n]
					model[n] = to
				}
			},
			"": func(t *rapid.T) {
				if table.Len() != len(model) || table.Sum() != sum {
					t.Fatalf("%d counters, sum %d; want %d, %d", table.Len(), table.Sum(), len(model), sum)
				}
				for i, n := range made {
					if string(table.Name(i)) != n || table.Count(i) != model[n] {
						t.Fatalf("counter %d is %q: %d; want %q: %d", i, table.Name(i), table.Count(i), n, model[n])
					}
					if got, ok := table.Find([]byte(n)); !ok || got != i {
						t.Fatalf("Find(%q) = %d, %v; want %d", n, got, ok, i)
					}
				}
			},
		})
	})
}

func TestTableRefusesLongNames(t *testing.T) {
	table := NewTable(1000)
	long := bytes.Repeat([]byte("x"), MaxName+1)
	_, addErr := table.Add(long, 1)
	_, makeErr := table.Make(long)
	if addErr == nil || makeErr == nil || table.Set(long, 1) == nil || table.Len() != 0 {
		t.Error("taken")
	}
}

// A name costs memory once, and one that is refused nothing.
func TestTableAllocations(t *testing.T) {
	race.Spare(t)
	const most = 20000
	table := NewTable(most)
	names := manyNames(most + 1000)
	perName := testing.AllocsPerRun(1, func() {
		for _, n := range names[:most] {
			table.Add(n, 1)
		}
	}) / most
	if perName > 0.4 { // chunks, and the parts of the index, which double
		t.Errorf("%.2f allocations for a new name", perName)
	}
	i := 0
	if n := testing.AllocsPerRun(999, func() {
		table.Add(names[i], 1)
		table.Add(names[i], 0)
		if _, err := table.Add(names[most+i], 1); err != ErrTooMany {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a known and a refused name", n)
	}
}

func manyNames(n int) [][]byte {
	names := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Appendf(nil, "/some/where/page-%011d", i*7919)
	}
	return names
}

// A million names of 28 bytes, with the garbage of growing.
func TestMillionNamesTakeLittleMemory(t *testing.T) {
	race.Spare(t)
	const names = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table := NewTable(names)
	var name []byte
	for i := range names {
		name = fmt.Appendf(name[:0], "/some/where/page-%011d", i)
		if _, err := table.Add(name, 1); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	grown := after.TotalAlloc - before.TotalAlloc
	runtime.GC()
	runtime.ReadMemStats(&after)
	kept := after.HeapAlloc - before.HeapAlloc
	t.Logf("%d names of %d bytes: %.1f MB kept, %.1f MB allocated in all", names, len(name), float64(kept)/1e6, float64(grown)/1e6)
	if kept > 66e6 || grown > 90e6 {
		t.Error("that is too much")
	}
	runtime.KeepAlive(table)
}

// listed is a Table with everything that was ever counted on it.
func listed(r *rand.Rand, n int) (*Table, []Named) {
	table := NewTable(int64(n))
	all := map[string]int64{}
	for range n {
		name := make([]byte, r.IntN(4))
		for k := range name {
			name[k] = "/ab\xff"[r.IntN(4)]
		}
		name = fmt.Appendf(name, "%d", r.IntN(n))
		hits := 1 + r.Int64N(3)
		if _, err := table.Add(name, hits); err != nil {
			panic(err)
		}
		all[string(name)] += hits
	}
	var list []Named
	for name, count := range all {
		list = append(list, Named{name, count})
	}
	slices.SortFunc(list, func(a, b Named) int { return cmp.Compare(a.Name, b.Name) })
	return table, list
}

func TestListerFindsAndOrders(t *testing.T) {
	race.Spare(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 511, 512, 513, 3000, 5000} {
		table, want := listed(r, n)
		var mu sync.Mutex
		l := table.Lister(&mu)
		check := func(q Query) {
			t.Helper()
			got, err := l.List(bg, q)
			if err != nil {
				t.Fatal(err)
			}
			if want := plainly(want, q); !slices.Equal(got, want) {
				t.Fatalf("%d names, %+v:\n%v\nwant\n%v", n, q, got, want)
			}
		}
		for _, prefix := range []string{"", "/", "/a", "\xff", "\xff\xff", "zzz", "9"} {
			for _, limit := range []int{1, 3, 100, math.MaxInt} {
				check(Query{Prefix: prefix, Limit: limit})
				check(Query{Prefix: prefix, Limit: limit, ByCount: true})
				for _, after := range []string{"/", "/a", "1", "b", "\xff/", "\xff\xff\xff\xff", "/a17", "7"} {
					check(Query{Prefix: prefix, Limit: limit, After: after})
				}
			}
		}
		var each []Named
		if err := l.Each(bg, func(n Named) error { each = append(each, n); return nil }); err != nil || !slices.Equal(each, want) {
			t.Fatalf("Each of %d: %d, %v", n, len(each), err)
		}
		// New names find their place between the old ones.
		for k := range 700 {
			name := fmt.Sprintf("/a%d+%d", k%9, k)
			if err := table.Set([]byte(name), 1); err != nil {
				t.Fatal(err)
			}
			want = append(want, Named{name, 1})
			if k%100 == 0 || k == 699 {
				slices.SortFunc(want, func(a, b Named) int { return cmp.Compare(a.Name, b.Name) })
				check(Query{Limit: math.MaxInt})
			}
		}
		if got, _ := l.Names(); got != int64(table.Len()) {
			t.Errorf("Names() = %d", got)
		}
	}
}

// plainly is List, the plain way.
func plainly(all []Named, q Query) []Named {
	list := slices.Clone(all)
	if q.ByCount {
		slices.SortStableFunc(list, func(a, b Named) int { return cmp.Compare(b.Count, a.Count) })
	}
	list = slices.DeleteFunc(list, func(n Named) bool {
		return !strings.HasPrefix(n.Name, q.Prefix) || !q.ByCount && q.After != "" && n.Name <= q.After
	})
	return list[:min(len(list), q.Limit)]
}

// Whoever lists while others count sees each counter no older than when it began,
// in order, and never goes on for ever.
func TestListerBesideThoseWhoCount(t *testing.T) {
	table := NewTable(1 << 20)
	var mu sync.Mutex
	l := table.Lister(&mu)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				for k := range 50 {
					table.Add(fmt.Appendf(nil, "/%d", (i*50+k*g)%30000), 1)
				}
				mu.Unlock()
			}
		})
	}
	for rounds, n := 0, 0; rounds < 20 || n < 20000; rounds++ {
		mu.Lock()
		sum := table.Sum()
		n = table.Len()
		mu.Unlock()
		seen, last := int64(0), ""
		count := 0
		err := l.Each(bg, func(n Named) error {
			if n.Name <= last || n.Count < 1 {
				return fmt.Errorf("%v after %q", n, last)
			}
			last, seen, count = n.Name, seen+n.Count, count+1
			return nil
		})
		if err != nil || seen < sum || count < n {
			t.Fatalf("%d counters with %d in all, after %d with %d: %v", count, seen, n, sum, err)
		}
		if top, err := l.List(bg, Query{ByCount: true, Limit: 10}); err != nil || len(top) != min(10, n) && n > 0 {
			t.Fatal(top, err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestListerEndsWhenToldTo(t *testing.T) {
	table, _ := listed(rand.New(rand.NewPCG(1, 2)), 3000)
	l := table.Lister(new(sync.Mutex))
	ctx, cancel := context.WithCancelCause(bg)
	enough := errors.New("enough")
	n := 0
	if err := l.Each(bg, func(Named) error { n++; return enough }); err != enough || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
	cancel(enough)
	for _, q := range []Query{{Limit: 1}, {Limit: 1, ByCount: true}} {
		if _, err := l.List(ctx, q); err != enough {
			t.Errorf("List(%+v): %v", q, err)
		}
	}
}

func BenchmarkTable(b *testing.B) {
	for _, n := range []int{1, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := NewTable(int64(n))
			names := manyNames(n)
			rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
			for _, name := range names {
				table.Add(name, 1)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				table.Add(names[i], 1)
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}

func BenchmarkLister(b *testing.B) {
	const n = 1_000_000
	table := NewTable(n)
	for _, name := range manyNames(n) {
		table.Add(name, 1)
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			table.Lister(new(sync.Mutex)).List(bg, Query{Limit: 1000})
		}
	})
	l := table.Lister(new(sync.Mutex))
	for _, q := range []Query{{Limit: 1000}, {Limit: 20, ByCount: true}, {Limit: 20, ByCount: true, Prefix: "/some/where/page-000000000"}} {
		b.Run(fmt.Sprintf("%+v", q), func(b *testing.B) {
			for b.Loop() {
				l.List(bg, q)
			}
		})
	}
}
