package engine

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestListsKeepOrder moves connections between two lists and compares with slices.
func TestListsKeepOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var lists [2]list
		var model [2][]*conn
		conns := make([]*conn, 5)
		for i := range conns {
			conns[i] = &conn{}
		}
		for i := range lists {
			lists[i].patience = time.Duration(i+1) * time.Second
		}
		forget := func(c *conn) {
			for i := range model {
				model[i] = slices.DeleteFunc(model[i], func(x *conn) bool { return x == c })
			}
		}
		now := time.Duration(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 1000).Draw(t, "pause")) * time.Millisecond
			c := rapid.SampledFrom(conns).Draw(t, "conn")
			forget(c)
			if i := rapid.IntRange(0, 2).Draw(t, "list"); i < 2 {
				model[i] = append(model[i], c)
				lists[i].put(c, now)
			} else {
				c.remove()
			}
			for i := range lists {
				check(t, &lists[i], model[i], now)
			}
		}
	})
}

func check(t *rapid.T, l *list, model []*conn, now time.Duration) {
	var got, back []*conn
	for c := l.head; c != nil; c = c.next {
		got = append(got, c)
	}
	for c := l.tail; c != nil; c = c.prev {
		back = append(back, c)
	}
	slices.Reverse(back)
	if !slices.Equal(got, model) || !slices.Equal(back, model) {
		t.Fatalf("list %p, backwards %p, want %p", got, back, model)
	}
	late := l.late(now)
	if len(model) == 0 || now-model[0].since <= l.patience+tick {
		if late != nil {
			t.Fatal("one is late that is not")
		}
		return
	}
	if late != model[0] {
		t.Fatal("the first is late, and not told")
	}
}
