package main

import (
	"runtime"

	"github.com/counterd/counterd/engine"
)

// tune sets what counterd wants of the schedulers, the kernel's and Go's. What each
// buys was measured: docs/design.md has the table.
func tune(c *config) {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors(c))
	scheduleAsBatch()
}

// spareProcessors is how many processors Go's runtime gets beyond those of the
// machine. An event loop holds one for as long as it has events, so a new
// connection would wait for the acceptor until the runtime's monitor looks, 10 ms
// later. And whoever waits for a store holds one while a disk syncs, and needs
// one when a database answers. The kernel shares out the cores.
func spareProcessors(c *config) (n int) {
	if c.Engine == engine.Gnet {
		n++
	}
	if c.kind().lasts() {
		n++
	}
	return n
}
