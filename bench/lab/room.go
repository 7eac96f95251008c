package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// connTable is the kernel's table of connections. It is there when the firewall
// has a rule that asks for it, as Docker's do. A closed connection stays in it
// for two minutes, and while it is full the kernel drops whatever would open a
// new one: a client waits for its retransmission a second later, and the lab
// would measure that.
type connTable struct{ settings, counters string }

var kernelTable = connTable{"/proc/sys/net/netfilter", "/proc/net/stat/nf_conntrack"}

// roomWithin is a little longer than a closed connection stays in the table.
const roomWithin = 150 * time.Second

// waitForRoom returns when the table can take n more connections, an error when
// it can't within the time. Where there is no table there is room.
func (t connTable) waitForRoom(ctx context.Context, n int, within time.Duration) error {
	limit, ok := t.setting("nf_conntrack_max")
	if !ok {
		return nil
	}
	limit -= limit / 20 // what else the machine talks about
	deadline := time.Now().Add(within)
	for {
		used, ok := t.setting("nf_conntrack_count")
		if !ok || used+n <= limit {
			return nil
		}
		if n > limit || time.Now().After(deadline) {
			return fmt.Errorf("%w: the firewall's table has %d connections, the turn needs room for %d more, and %d is the most",
				errUnavailable, used, n, limit)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t connTable) setting(name string) (int, bool) {
	n, err := strconv.Atoi(readFile(filepath.Join(t.settings, name)))
	return n, err == nil
}

// dropped counts the packets that found no room since the machine was started.
func (t connTable) dropped() int64 {
	b, err := os.ReadFile(t.counters)
	if err != nil {
		return 0
	}
	head, rows, _ := bytes.Cut(b, []byte("\n"))
	column := slices.Index(strings.Fields(string(head)), "drop")
	total := int64(0)
	for row := range strings.Lines(string(rows)) { // one per processor, in hexadecimal
		if f := strings.Fields(row); column >= 0 && column < len(f) {
			n, _ := strconv.ParseInt(f[column], 16, 64)
			total += n
		}
	}
	return total
}

// newConnections is how many entries of the table a measurement of the point
// takes at most. A port of the client's that comes round again takes the entry
// that it had.
func (p Point) newConnections() int {
	if p.Close {
		return localPorts()
	}
	return 4*p.Connections + p.Idle // warm-ups, measurement, counting of system calls
}

func localPorts() int {
	var from, to int
	if _, err := fmt.Sscan(readFile("/proc/sys/net/ipv4/ip_local_port_range"), &from, &to); err != nil {
		return 1 << 16
	}
	return to - from + 1
}
