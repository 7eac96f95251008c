package admin

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a page in headless Chromium. It fails the test for an error in a
// script and for a request to another host.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func openBrowser(t *testing.T, url string) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("no Chromium, and CI must test the live page")
		}
		t.Skip("no Chromium: scripts/test.sh installs it")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)

	b := &browser{t, ctx}
	var asked atomic.Int64
	t.Cleanup(func() {
		if asked.Load() < 3 { // page, style, script
			t.Errorf("only %d requests were seen: this test watches nothing", asked.Load())
		}
	})
	b.call(chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("script: %s", ev.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			asked.Add(1)
			if !strings.HasPrefix(ev.Request.URL, url+"/") {
				t.Errorf("the page asks %s", ev.Request.URL)
			}
		}
	}))
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	b.call(err)
	b.light()
	b.do(chromedp.Navigate(url + "/"))
	return b
}

func (b *browser) call(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	b.call(chromedp.Do(b.ctx, actions...))
}

// eval returns the value of an expression, as text.
func (b *browser) eval(expr string) string {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("String("+expr+")"))
	b.call(err)
	return v
}

// await waits until an expression holds.
func (b *browser) await(expr string) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("Boolean("+expr+")",
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(20*time.Second)))
	if err != nil {
		b.t.Fatalf("never %s: %v", expr, err)
	}
}

func (b *browser) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	b.call(err)
}

func (b *browser) light() { b.t.Helper(); b.scheme("light") }
func (b *browser) dark()  { b.t.Helper(); b.scheme("dark") }

// shoot saves what the page looks like, if COUNTERD_SCREENSHOTS says where.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("COUNTERD_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	b.call(err)
	b.call(os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

// fits fails the test if the page must be scrolled sideways.
func (b *browser) fits(what string) {
	b.t.Helper()
	if over := b.eval("document.scrollingElement.scrollWidth - innerWidth"); over != "0" && !strings.HasPrefix(over, "-") {
		b.t.Errorf("%s: %s pixels too wide", what, over)
	}
}

func TestLivePage(t *testing.T) {
	f := &fake{}
	f.jump(1_234_567)
	f.open.Store(137)
	o := f.options()
	s, url := start(t, o)
	b := openBrowser(t, url)

	t.Run("the number follows hits", func(t *testing.T) {
		b := &browser{t, b.ctx}
		if got := b.eval(`document.getElementById("count").textContent`); got != "1234567" {
			t.Errorf("count %s", got)
		}
		for _, n := range []int64{1_234_568, 1_300_000, math.MaxInt64} {
			f.jump(n)
			b.await(`document.getElementById("count").textContent === "` + strconv.FormatInt(n, 10) + `"`)
		}
		f.jump(1_300_000) // no store does so; the page doesn't mind
		b.await(`document.getElementById("open").textContent === "137"`)
	})

	t.Run("the chart draws and moves", func(t *testing.T) {
		b := &browser{t, b.ctx}
		points := `(document.getElementById("line").getAttribute("d").match(/L/g) || []).length`
		b.await(points + ` >= 1`)
		before := b.eval(points)
		b.await(points + ` > ` + before)
		// Hits make it rise: the newest point stands above the bottom.
		hits := time.NewTicker(50 * time.Millisecond)
		defer hits.Stop()
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-hits.C:
					f.total.Add(10)
				}
			}
		})
		b.await(`document.getElementById("line").getBBox().height > 50`)
		b.await(`Number(document.getElementById("rate").textContent.replace(/,/g, "")) > 20`)
		close(done)
		wg.Wait()
		o.Commits.Observe(12, 3, 900*time.Microsecond, nil)
		o.Commits.Observe(14, 3, 900*time.Microsecond, nil)
		b.await(`document.getElementById("p50").textContent.endsWith("µs")`)
		b.await(`document.getElementById("batch").textContent === "13"`)
	})

	t.Run("a store that is down shows red", func(t *testing.T) {
		b := &browser{t, b.ctx}
		red := `(() => { const [r, g, b] = getComputedStyle(document.getElementById("up")).color.match(/\d+/g).map(Number); return r > 150 && g < 120 && b < 120 })()`
		if b.eval(red) != "false" {
			t.Error("it is red already")
		}
		f.fail(errors.New("could not sync counterd.db: input/output error"))
		b.await(`document.getElementById("up").textContent === "down" && ` + red)
		b.await(`document.getElementById("trouble").textContent.includes("input/output error")`)
		b.dark()
		b.await(red)
		b.shoot("down-dark")
		b.light()
		b.shoot("down-light")
		f.fail(nil)
		b.await(`document.getElementById("up").textContent === "up"`)
	})

	t.Run("it fits every screen in both themes", func(t *testing.T) {
		b := &browser{t, b.ctx}
		fill(s, f)
		b.await(`document.getElementById("count").textContent === "48213907"`)
		b.do(chromedp.Reload())
		b.await(`(document.getElementById("line").getAttribute("d").match(/L/g) || []).length > 250`)
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"wide", 1280, 860}, {"narrow", 360, 780}, {"tiny", 320, 568}, {"flat", 844, 390}} {
			b.do(chromedp.EmulateViewport(size.width, size.height))
			b.fits(size.name)
			b.light()
			b.shoot(size.name + "-light")
			b.dark()
			b.shoot(size.name + "-dark")
		}
		f.jump(math.MaxInt64)
		b.await(`document.getElementById("count").textContent.length === 19`)
		b.fits("nineteen digits")
		b.shoot("nineteen-dark")
		b.light()
		b.do(chromedp.EmulateViewport(1280, 860))
		b.fits("nineteen digits, wide")
		b.shoot("nineteen-light")
	})

	t.Run("it survives a restart", func(t *testing.T) {
		b := &browser{t, b.ctx}
		s.Close()
		b.await(`!document.getElementById("link").hidden && document.body.classList.contains("stale")`)
		b.shoot("stale-light")
		again := &fake{}
		again.total.Store(777)
		o := again.options()
		o.Engine = "goroutine"
		_, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		startOn(t, o, "127.0.0.1:"+port)
		b.await(`document.getElementById("count").textContent === "777" && document.getElementById("engine").textContent === "goroutine"`)
		b.await(`document.getElementById("link").hidden`)
		again.total.Add(1)
		b.await(`document.getElementById("count").textContent === "778"`)
	})
}

// fill gives the chart a history worth looking at.
func fill(s *Server, f *fake) {
	for range 20 {
		s.opts.Commits.Observe(61, 12, 180*time.Microsecond, nil)
	}
	s.opts.Commits.Observe(340, 90, 2*time.Millisecond, nil)
	s.live.mu.Lock()
	s.live.rates = s.live.rates[:0]
	for i := range historySeconds {
		x := float64(i)
		v := 42000 + 9000*math.Sin(x/23) + 2500*math.Sin(x/3.1) + 1500*math.Sin(x*1.7)
		if i > 180 && i < 200 {
			v *= 0.3
		}
		s.live.rates = append(s.live.rates, math.Round(v))
	}
	s.live.mu.Unlock()
	f.jump(48_213_907)
}
