package pgstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/internal/pgtest"
)

// BenchmarkReplicas commits batches from N replicas at once, each as fast as it
// can, on one PostgreSQL with its default settings. The size of a batch does
// not matter, so commits/s times the hits that gather in the meantime is the
// throughput; p50 and p99 are what a hit waits for its commit.
func BenchmarkReplicas(b *testing.B) {
	c := pgtest.New(b, pgtest.Config("max_connections = 300"))
	for _, n := range []int{1, 2, 4, 16, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stores := make([]*Store, n)
			for i := range stores {
				stores[i] = mustOpen(b, c.URL(), testOptions(b))
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			var mu sync.Mutex
			var waits []time.Duration
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, s := range stores {
				wg.Go(func() {
					var own []time.Duration
					for left.Add(-1) >= 0 {
						start := time.Now()
						if _, err := add(bg, s, 1000); err != nil {
							b.Error(err)
						}
						own = append(own, time.Since(start))
					}
					mu.Lock()
					defer mu.Unlock()
					waits = append(waits, own...)
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(waits)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchmarkNames commits batches of 1 to 1,000 of 10,000 names, one after the
// other.
func BenchmarkNames(b *testing.B) {
	c := pgtest.New(b)
	o := manyOptions(b)
	all := make([]counter.Named, 10_000)
	for i := range all {
		all[i] = counter.Named{Name: fmt.Sprintf("/a/path/of/28/bytes/%08d", i), Count: 1}
	}
	if err := byHand(c.URL(), o).Load(bg, all); err != nil {
		b.Fatal(err)
	}
	s := mustOpen(b, c.URL(), o)
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ds := make([]counter.Delta, n)
			for b.Loop() {
				for i, k := range rand.Perm(len(all))[:n] {
					ds[i] = counter.Delta{Name: []byte(all[k].Name), Hits: 1}
				}
				if _, err := s.Add(bg, ds); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "hits/s")
		})
	}
}
