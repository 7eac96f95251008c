// Command fasthttp counts requests on valyala/fasthttp: a goroutine per
// connection from a pool of workers, and an HTTP stack made for speed.
package main

import (
	"log"

	"github.com/valyala/fasthttp"

	"github.com/counterd/counterd/bench/peers/peer"
)

func main() {
	server := &fasthttp.Server{
		NoDefaultServerHeader: true,
		Concurrency:           1 << 20,
		Handler: func(ctx *fasthttp.RequestCtx) {
			var room [21]byte
			body := room[:0]
			if string(ctx.Path()) == "/count" && ctx.IsGet() {
				body = peer.Count(body)
			} else {
				body = peer.Hit(body)
			}
			ctx.SetContentType(peer.ContentType)
			ctx.Response.Header.Set("Cache-Control", peer.CacheControl)
			ctx.SetBody(body)
		},
	}
	log.Fatal(server.Serve(peer.Listen()))
}
