package engine

import (
	"sync"
	"sync/atomic"

	"github.com/counterd/counterd/httpparse"
)

// Stats is a snapshot of what a server has done since its start.
type Stats struct {
	Hits         uint64 // answered 200 with a number
	Reads        uint64 // answered 200 with a count
	Unavailable  uint64 // hits and reads answered 503: the store was slow, away, full or overloaded
	TooMany      uint64 // hits answered 507: each would have made one counter too many
	Accepted     uint64 // connections handed to the engine
	Rejected     uint64 // connections refused at MaxConns
	AcceptErrors uint64 // times the acceptor had to wait, mostly for descriptors or memory
	Open         int64  // connections open now

	// Refused counts what was refused without asking the store, by the reason in a
	// word of snake_case. net/http answers malformed requests before our code sees
	// them, so std misses those.
	Refused map[string]uint64
}

// tally is one shard's counters. Each event loop has its own, on cache lines
// of its own; goroutines share a few.
type tally struct {
	hits, reads, unavailable, tooMany atomic.Uint64
	_                                 [96]byte
}

const shards = 16

type stats struct {
	tallies                          [shards]tally
	accepted, rejected, acceptErrors atomic.Uint64
	refused                          sync.Map // *httpparse.Error → *atomic.Uint64
}

func (s *stats) shard(i int) *tally { return &s.tallies[i%shards] }

func (s *stats) refuse(e *httpparse.Error) {
	n, ok := s.refused.Load(e)
	if !ok {
		n, _ = s.refused.LoadOrStore(e, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// Stats may be called at any time, also after Shutdown.
func (s *Server) Stats() Stats {
	st := Stats{
		Accepted:     s.stats.accepted.Load(),
		Rejected:     s.stats.rejected.Load(),
		AcceptErrors: s.stats.acceptErrors.Load(),
		Refused:      make(map[string]uint64),
	}
	for i := range s.stats.tallies {
		t := &s.stats.tallies[i]
		st.Hits += t.hits.Load()
		st.Reads += t.reads.Load()
		st.Unavailable += t.unavailable.Load()
		st.TooMany += t.tooMany.Load()
	}
	s.stats.refused.Range(func(e, n any) bool {
		st.Refused[e.(*httpparse.Error).Name] = n.(*atomic.Uint64).Load()
		return true
	})
	s.mu.Lock()
	st.Open = int64(s.open[0] + s.open[1])
	s.mu.Unlock()
	return st
}
