package engine

import (
	"sync"
	"sync/atomic"

	"github.com/counterd/counterd/counter"
)

// Stats is a snapshot of what a server has done since its start.
type Stats struct {
	Hits         uint64 // answered 200 with a number
	Reads        uint64 // answered 200 with the count
	Unavailable  uint64 // hits and reads answered 503: the store was slow, away, full or overloaded
	Accepted     uint64 // connections handed to the engine
	Rejected     uint64 // connections refused at MaxConns
	AcceptErrors uint64 // times the acceptor had to wait for descriptors or memory
	Open         int64  // connections open now

	// Refused counts what was refused without asking the store, by the
	// answer's one line of reason. net/http answers malformed requests before
	// our code sees them, so std misses those.
	Refused map[string]uint64
}

// tally is one shard's counters. Each event loop has its own, on cache lines
// of its own; goroutines share a few.
type tally struct {
	hits, reads, unavailable atomic.Uint64
	_                        [104]byte
}

const shards = 16

type stats struct {
	tallies                          [shards]tally
	accepted, rejected, acceptErrors atomic.Uint64
	refused                          sync.Map // reason → *atomic.Uint64
}

func (s *stats) shard(i int) *tally { return &s.tallies[i%shards] }

func (s *stats) refuse(reason string) {
	n, ok := s.refused.Load(reason)
	if !ok {
		n, _ = s.refused.LoadOrStore(reason, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// answered counts the answers of one settled batch, or part of one. b is nil
// when none of them asked the store.
func (s *stats) answered(t *tally, answers []answer, b *counter.Batch) {
	var hits, reads, unavailable uint64
	for i := range answers {
		switch a := &answers[i]; {
		case a.kind == refusal:
			s.refuse(a.err.Reason)
		case !a.asks():
		case a.kind == hit && int64(a.before) < b.Granted:
			hits++
		case a.kind == read && readable(b):
			reads++
		default:
			unavailable++
		}
	}
	if hits > 0 {
		t.hits.Add(hits)
	}
	if reads > 0 {
		t.reads.Add(reads)
	}
	if unavailable > 0 {
		t.unavailable.Add(unavailable)
	}
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
	}
	s.stats.refused.Range(func(reason, n any) bool {
		st.Refused[reason.(string)] = n.(*atomic.Uint64).Load()
		return true
	})
	s.mu.Lock()
	st.Open = int64(s.open)
	s.mu.Unlock()
	return st
}
