// Command nbio counts requests on lesismal/nbio: event loops that parse HTTP
// and hand each request to a goroutine of a pool, with net/http's Handler.
package main

import (
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/lesismal/nbio/nbhttp"

	"github.com/counterd/counterd/bench/peers/peer"
)

func main() {
	ln := peer.Listen()
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{ln.Addr().String()},
		Listen:  func(string, string) (net.Listener, error) { return ln, nil },
		NPoller: runtime.GOMAXPROCS(0), // its default is one for four cores
		Handler: http.HandlerFunc(serve),
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
}

func serve(w http.ResponseWriter, r *http.Request) {
	var room [21]byte
	body := room[:0]
	if r.URL.Path == "/count" && r.Method == http.MethodGet {
		body = peer.Count(body)
	} else {
		body = peer.Hit(body)
	}
	h := w.Header()
	h.Set("Content-Type", peer.ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", peer.CacheControl)
	_, _ = w.Write(body) // it fails when the client has gone, and nobody waits then
}
