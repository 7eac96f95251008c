package engine

import "time"

// list holds the connections of a loop that are in the same state, in the order
// in which they came there. All of them have the same patience, so the first is
// always the next to be late: that makes a deadline cost O(1) and no timer.
type list struct {
	head, tail *conn
	patience   time.Duration // 0: for ever
}

// links are a conn's place in the list it is in.
type links struct {
	list       *list
	prev, next *conn
	since      time.Duration // when it was put there, by the server's clock
}

// put moves c to the end of l, from whatever list it is in.
func (l *list) put(c *conn, now time.Duration) {
	c.since = now
	if c.list == l && l.tail == c {
		return
	}
	c.remove()
	c.list, c.prev = l, l.tail
	if l.tail == nil {
		l.head = c
	} else {
		l.tail.next = c
	}
	l.tail = c
}

// remove takes c out of its list, if it is in one.
func (c *conn) remove() {
	l := c.list
	if l == nil {
		return
	}
	if c.prev == nil {
		l.head = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.tail = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.list, c.prev, c.next = nil, nil, nil
}

// late returns the first connection whose patience has ended, or nil. The clock
// lags by up to a tick, so since may be that much too early; a deadline must
// not be.
func (l *list) late(now time.Duration) *conn {
	if l.head == nil || l.patience == 0 || now-l.head.since <= l.patience+tick {
		return nil
	}
	return l.head
}
