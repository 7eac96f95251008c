// Command hertz counts requests on cloudwego/hertz: one HTTP stack on two
// transports. --transport=netpoll is its own event loops, which hand each
// request to a goroutine of a pool; --transport=net is the standard library, a
// goroutine per connection.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"runtime"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/app/server"
	"github.com/cloudwego/hertz/pkg/common/config"
	"github.com/cloudwego/hertz/pkg/common/hlog"
	"github.com/cloudwego/hertz/pkg/network"
	"github.com/cloudwego/hertz/pkg/network/netpoll"
	"github.com/cloudwego/hertz/pkg/network/standard"
	pollers "github.com/cloudwego/netpoll"

	"github.com/counterd/counterd/bench/peers/peer"
)

func main() {
	transport := standard.NewTransporter
	flag.Func("transport", "`netpoll` or net", func(name string) error {
		switch name {
		case "net":
		case "netpoll":
			transport = netpoll.NewTransporter
			// Its default is one for twenty cores, which would compare nothing.
			return pollers.Configure(pollers.Config{PollerNum: runtime.GOMAXPROCS(0)})
		default:
			return fmt.Errorf("no transport %q", name)
		}
		return nil
	})
	ln := peer.Listen()
	hlog.SetLevel(hlog.LevelError)
	h := server.New(
		server.WithListener(ln),
		server.WithTransport(func(o *config.Options) network.Transporter { return transport(o) }),
		server.WithDisablePrintRoute(true),
	)
	h.GET("/count", func(_ context.Context, c *app.RequestContext) { answer(c, peer.Count(nil)) })
	h.Any("/*path", func(_ context.Context, c *app.RequestContext) { answer(c, peer.Hit(nil)) })
	log.Fatal(h.Run())
}

func answer(c *app.RequestContext, body []byte) {
	c.Response.Header.Set("Cache-Control", peer.CacheControl)
	c.Data(200, peer.ContentType, body)
}
