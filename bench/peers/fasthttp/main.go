// Command fasthttp counts requests on valyala/fasthttp: a goroutine per
// connection from a pool of workers, and an HTTP stack made for speed.
//
// It does counterd's job in its simplest form: every request adds one and is
// answered with its number, GET /count reads. Its answers carry the same
// fields as counterd's. "listening ADDRESS" on stdout says that it is up.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "TCP address")
	flag.Parse()

	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", ln.Addr())

	var hits atomic.Int64
	server := &fasthttp.Server{
		NoDefaultServerHeader: true,
		Concurrency:           1 << 20,
		Handler: func(ctx *fasthttp.RequestCtx) {
			var n int64
			if string(ctx.Path()) == "/count" && ctx.IsGet() {
				n = hits.Load()
			} else {
				n = hits.Add(1)
			}
			ctx.SetContentType("text/plain; charset=utf-8")
			ctx.Response.Header.Set("Cache-Control", "no-store")
			var body [21]byte
			ctx.SetBody(append(strconv.AppendInt(body[:0], n, 10), '\n'))
		},
	}
	log.Fatal(server.Serve(ln))
}
