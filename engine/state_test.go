package engine

import (
	"fmt"
	"testing"
)

var stateNames = map[state]string{
	fresh: "fresh", graced: "graced", idle: "idle", reading: "reading", waiting: "waiting",
	lingering: "lingering", leaving: "leaving",
}

// TestNextState goes through every combination of facts. The first row that fits
// says where a connection goes.
func TestNextState(t *testing.T) {
	is := func(states ...state) func(state) bool {
		return func(s state) bool {
			for _, one := range states {
				if s == one {
					return true
				}
			}
			return false
		}
	}
	any := is(fresh, graced, idle, reading, waiting)
	rows := []struct {
		name string
		from func(state) bool
		when func(facts) bool
		to   state
	}{
		{"the socket takes no more", any, func(f facts) bool { return f.blocked }, leaving},
		{"the last answer is owed", any, func(f facts) bool { return f.ended && f.owed }, waiting},
		{"the last answer is sent", any, func(f facts) bool { return f.ended }, lingering},
		{"it sends on, and is owed all it may be", any, func(f facts) bool { return f.full && f.flooding }, leaving},
		{"it is owed all it may be", any, func(f facts) bool { return f.full }, waiting},
		{"a request is partly there", any, func(f facts) bool { return !f.between }, reading},
		{"answers are owed", any, func(f facts) bool { return f.owed }, waiting},
		{"all is answered, in a drain", any, func(f facts) bool { return f.answered && f.draining }, lingering},
		{"all is answered", any, func(f facts) bool { return f.answered }, idle},
		{"nothing came, in a drain, after requests", is(idle, waiting), func(f facts) bool { return f.draining }, lingering},
		{"nothing came, after requests", is(idle, waiting), func(facts) bool { return true }, idle},
		{"nothing came, in a drain, before the first", is(fresh, graced, reading), func(f facts) bool { return f.draining }, graced},
		{"an empty line, before the first", is(fresh), func(facts) bool { return true }, fresh},
		{"an empty line, in what was a drain", is(graced), func(facts) bool { return true }, graced},
		{"an empty line after part of a request", is(reading), func(facts) bool { return true }, reading},
	}
	used := make([]int, len(rows))
	for s := fresh; s < lingering; s++ {
		for bits := range 1 << 8 {
			bit := func(n int) bool { return bits&(1<<n) != 0 }
			f := facts{bit(0), bit(1), bit(2), bit(3), bit(4), bit(5), bit(6), bit(7)}
			for i, row := range rows {
				if !row.from(s) || !row.when(f) {
					continue
				}
				used[i]++
				if got := s.next(f); got != row.to {
					t.Errorf("%s: %s with %+v goes to %s, want %s", row.name, stateNames[s], f, name(got), name(row.to))
				}
				break
			}
		}
	}
	for i, n := range used {
		if n == 0 {
			t.Errorf("%s: never the case", rows[i].name)
		}
	}
}

func name(s state) string {
	if n, ok := stateNames[s]; ok {
		return n
	}
	return fmt.Sprint(uint8(s))
}
