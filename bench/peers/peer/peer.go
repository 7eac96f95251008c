// Package peer is what the lab's Go servers share: flags, the counter, the
// work of a handler, and the fields that counterd's answers carry.
package peer

import (
	"flag"
	"fmt"
	"log"
	"net"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/counterd/counterd/bench/spin"
)

// The fields of each answer, beside Date and Content-Length.
const (
	ContentType  = "text/plain; charset=utf-8"
	CacheControl = "no-store"
)

var (
	listen = flag.String("listen", "127.0.0.1:0", "TCP address")
	work   = flag.Uint64("work", 0, "steps of work for each hit")
)

// Listen parses the flags and listens where they say. "listening ADDRESS" on
// stdout says that clients may come: the kernel queues those that are early.
func Listen() net.Listener {
	flag.Parse()
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", ln.Addr())
	return ln
}

var hits atomic.Int64

// Hit works as long as --work says, counts, and appends the body of the answer
// to dst. Goroutines may call it at once.
func Hit(dst []byte) []byte {
	if *work > 0 {
		runtime.KeepAlive(spin.Do(*work)) // or the compiler leaves it out
	}
	return body(dst, hits.Add(1))
}

// Count appends the body of an answer that counts nothing.
func Count(dst []byte) []byte { return body(dst, hits.Load()) }

func body(dst []byte, n int64) []byte { return append(strconv.AppendInt(dst, n, 10), '\n') }
