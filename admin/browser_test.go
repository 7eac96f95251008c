package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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

	"github.com/counterd/counterd/counter"
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

func (b *browser) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// text awaits the text of the element with an id.
func (b *browser) text(id, want string) {
	b.t.Helper()
	b.await(fmt.Sprintf("document.getElementById(%q).textContent === %q", id, want))
}

// alarm awaits an alarm that says all of the words, at the top of the page.
func (b *browser) alarm(words ...string) {
	b.t.Helper()
	for _, w := range words {
		b.await(fmt.Sprintf(`document.querySelector("#alarms, #lost") && [...document.querySelectorAll(".alarm")].some((a) => a.checkVisibility() && a.textContent.includes(%q))`, w))
	}
}

// calm awaits that nothing is wrong.
func (b *browser) calm() {
	b.t.Helper()
	b.await(`document.querySelectorAll(".alarm").length === 0 && document.title === "counterd" && document.getElementById("icon").getAttribute("href") === "/icon.svg"`)
}

const points = `(document.querySelector(".line.hits").getAttribute("d").match(/[ML]/g) || []).length`

func TestLivePage(t *testing.T) {
	t.Parallel()
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
		for n, grouped := range map[int64]string{
			1_234_568: "1,234,568", 1_300_000: "1,300,000", 999: "999", math.MaxInt64: "9,223,372,036,854,775,807",
		} {
			f.jump(n)
			b.text("count", strconv.FormatInt(n, 10))
			b.text("grouped", grouped)
		}
		f.jump(1_300_000) // no store does so; the page doesn't mind
		b.text("open", "137")
	})

	t.Run("the charts draw and move", func(t *testing.T) {
		b := &browser{t, b.ctx}
		b.await(points + ` >= 2`)
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
					f.refused.Add(1)
					o.Commits.Observe(13, 3, 900*time.Microsecond, nil)
				}
			}
		})
		for _, line := range []string{"hits", "refused"} {
			b.await(`document.querySelector(".line.` + line + `").getBBox().height > 50`)
		}
		b.await(`document.querySelector(".line.unavailable").getBBox().height === 0`)
		b.await(`document.querySelector(".line.p50").getBBox().width >= 2`)
		b.await(`Number(document.getElementById("rate").textContent.replace(/,/g, "")) > 20`)
		close(done)
		wg.Wait()
		b.await(`document.getElementById("p50").textContent.endsWith("µs")`)
		b.text("batch", "13")
	})

	t.Run("it fits every screen in both themes", func(t *testing.T) {
		b := &browser{t, b.ctx}
		fill(s, f)
		b.text("count", "48213907")
		b.do(chromedp.Reload())
		b.await(points + ` > 250`)
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"wide", 1200, 800}, {"huge", 2000, 1100}, {"narrow", 390, 844}, {"tiny", 320, 568}, {"flat", 844, 390}} {
			b.size(size.width, size.height)
			b.fits(size.name)
			b.light()
			b.shoot(size.name + "-light")
			b.dark()
			b.shoot(size.name + "-dark")
		}
		f.jump(math.MaxInt64)
		b.await(`document.getElementById("count").textContent.length === 19`)
		for _, width := range []int64{320, 390, 844, 1200, 2000} {
			b.size(width, 800)
			b.fits(fmt.Sprintf("nineteen digits on %d pixels", width))
		}
		b.light()
		b.size(390, 844)
		b.shoot("nineteen-light")
		b.size(1200, 800)
	})

	t.Run("pointing shows that second on all charts", func(t *testing.T) {
		b := &browser{t, b.ctx}
		b.eval(`(() => { const p = document.querySelector(".plot"), r = p.querySelector("svg").getBoundingClientRect();
			p.dispatchEvent(new PointerEvent("pointermove", { clientX: r.left + r.width / 2 })) })()`)
		b.await(`[...document.querySelectorAll(".when")].every((w) => /\d:\d\d/.test(w.textContent))`)
		b.await(`document.querySelectorAll(".cursor:not([hidden])").length === 4`)
		b.eval(`document.querySelector(".plot").dispatchEvent(new PointerEvent("pointerleave"))`)
		b.await(`document.querySelectorAll(".cursor:not([hidden])").length === 0`)
	})
}

// TestLivePageInAnIncident: what is wrong stands at the top in the store's words,
// with what clients get, in the tab and in the chart; and it goes away.
func TestLivePageInAnIncident(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.jump(1_234_567)
	f.open.Store(137)
	s, url := start(t, f.options())
	fill(s, f)
	b := openBrowser(t, url)
	b.size(1200, 800)
	b.await(points + ` > 250`)
	b.calm()

	// A store that is down. The hostile text is what an error of a database might hold.
	f.fail(errors.New("could not sync counterd.db: input/output error <script>fail()</script>"))
	b.alarm("The store is down", "input/output error <script>fail()</script>", "Hits and reads get 503", "since ")
	b.text("up", "down")
	b.await(`document.title === "store down · counterd" && document.getElementById("icon").getAttribute("href") === "/icon-bad.svg"`)
	b.await(`document.querySelectorAll("rect.down").length === 4 && !document.getElementById("marksDown").hidden`)
	red := `(() => { const [r, g, b] = getComputedStyle(document.querySelector(".alarm h2")).color.match(/\d+/g).map(Number); return r > 150 && g < 140 && b < 140 })()`
	b.await(red)
	b.dark()
	b.await(red)
	s.live.mu.Lock()
	for i := range 40 {
		if h := &s.live.history[len(s.live.history)-1-i]; true {
			*h = sample{Down: true, Unavailable: 3100 + float64(i%7)*40, Refused: h.Refused}
		}
	}
	s.live.mu.Unlock()
	b.do(chromedp.Reload())
	// The first HTML says it, too.
	b.alarm("The store is down")
	b.await(points + ` > 200`)
	b.shoot("down-dark")
	b.light()
	b.shoot("down-light")
	b.size(390, 844)
	b.fits("down")
	b.shoot("down-narrow")
	b.size(1200, 800)
	f.fail(nil)
	b.calm()
	b.text("up", "up")

	// One that can be read, and takes no hits.
	f.refuse(errors.New("nothing was synced for 5s"))
	b.alarm("The store takes no hits", "nothing was synced for 5s", "Reads are answered")
	f.refuse(nil)
	b.calm()

	// Lesser troubles.
	f.unavailable.Add(100)
	b.alarm("Some requests got 503")
	b.await(`document.getElementById("icon").getAttribute("href") === "/icon-warn.svg"`)
	f.rejected.Add(1)
	b.alarm("No room for more connections", "137 of 1,000 are open")
	b.shoot("warn-light")
	b.dark()
	b.shoot("warn-dark")
	b.light()
	b.await(`document.querySelector(".line.unavailable").getBBox().height > 50`)
	for range windowSeconds {
		s.live.sample(s.reading())
	}
	b.calm()

	s.Drain()
	b.alarm("This server is stopping", "/readyz says 503")
	b.text("up", "stopping")
	b.shoot("draining-light")
	b.dark()
	b.shoot("draining-dark")
	b.light()

	// It ends, and another begins where it was.
	s.Close()
	b.alarm("No connection to counterd", "It was stopping")
	b.await(`document.title === "no connection · counterd" && document.body.classList.contains("stale")`)
	b.shoot("lost-light")
	b.dark()
	b.shoot("lost-dark")
	b.light()
	b.await(`/for ([2-9]|\d\d) s/.test(document.querySelector("#lost .since").textContent)`) // long enough to be seen
	again := &fake{}
	again.jump(777)
	o := again.options()
	o.Engine = "goroutine"
	startOn(t, o, strings.TrimPrefix(url, "http://"))
	b.text("count", "777")
	b.text("engine", "goroutine")
	b.calm()
	b.await(`!document.body.classList.contains("stale")`)
	again.total.Add(1)
	b.text("count", "778")
	// The chart keeps what it showed, with a gap.
	b.await(points + ` > 200 && document.querySelectorAll("rect.gone").length === 4`)
	b.shoot("back-light")
}

// TestLivePageOfASilentServer: a connection that stays open and says nothing is
// lost, too.
func TestLivePageOfASilentServer(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s, url := start(t, f.options())
	b := openBrowser(t, url)
	b.await(points + ` >= 2`)
	s.live.mu.Lock() // it stands still with all connections open
	goOn := sync.OnceFunc(s.live.mu.Unlock)
	t.Cleanup(goOn)
	b.alarm("No connection to counterd", "out of reach")
	goOn()
	b.calm()
}

// hostile are names that mean something to somebody.
var hostile = []string{
	"/<img src=x onerror=alert(1)>", `/"><script>alert(1)</script>`, "/';alert(1)//", "/</li></ol><h1>", "/&lt;b&gt;&amp;",
	"/\u202egnp.exe", "/\xff\xfe%41", "/a\"b,c;d\te", "=1+cmd|' /C calc'!A0", "/" + strings.Repeat("long/", 200),
}

func TestLivePageOfManyCounters(t *testing.T) {
	t.Parallel()
	f := &fake{}
	o := f.options()
	names := newLister()
	for i, name := range []string{
		"/", "/blog/why-we-count", "/downloads/counterd-1.4.0.tar.gz", "/pricing", "/docs/getting-started",
		"/docs/api", "/hook/github", "/hook/stripe", "/votes/a", "/votes/b", "/caf\xe9", "/downloads/counterd-1.3.9.tar.gz",
	} {
		names.add(name, 5_000_000/int64(i+1)/int64(i+1))
	}
	o.Counters = names
	s, url := start(t, o)
	fill(s, f)
	b := openBrowser(t, url)
	b.size(1200, 800)
	b.await(points + ` > 250`)
	rows := `[...document.querySelectorAll("#counters li:not(.head)")]`
	shown := rows + `.map((r) => r.querySelector("bdi").textContent)`

	// The largest ten, with rates as bars.
	b.await(shown + `.join() === "/,/blog/why-we-count,/downloads/counterd-1.4.0.tar.gz,/pricing,/docs/getting-started,/docs/api,/hook/github,/hook/stripe,/votes/a,/votes/b"`)
	b.text("names", "· 12 of 1,000,000")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				names.add("/", 40)
				names.add("/pricing", 10)
				names.add("/hook/github", 25)
				names.add("/votes/b", 3)
			}
		}
	})
	width := func(row int) string {
		return fmt.Sprintf(rows+`[%d].querySelector("i").getBoundingClientRect().width`, row)
	}
	b.await(width(0) + ` > 100 && ` + width(3) + ` > 10 && ` + width(0) + ` > 2 * ` + width(3) + ` && ` + width(1) + ` === 0`)
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"wide", 1200, 800}, {"huge", 2000, 1100}, {"narrow", 390, 844}} {
		b.size(size.width, size.height)
		b.fits("counters, " + size.name)
		b.shoot("counters-" + size.name + "-light")
		b.dark()
		b.shoot("counters-" + size.name + "-dark")
		b.light()
	}
	b.size(1200, 800)

	// The field finds by beginning, and goes on following.
	find := func(prefix string) {
		t.Helper()
		b.eval(fmt.Sprintf(`(() => { const f = document.getElementById("find"); f.value = %q; f.dispatchEvent(new Event("input")) })()`, prefix))
	}
	find("/downloads/")
	b.await(shown + `.join() === "/downloads/counterd-1.4.0.tar.gz,/downloads/counterd-1.3.9.tar.gz"`)
	find("/caf")
	b.await(shown + `.join() === "/caf%E9"`)
	find("/nothing & nobody")
	b.await(`document.getElementById("listTrouble").textContent.startsWith("No counter") && ` + rows + `.length === 0`)
	find("/votes/b")
	b.await(shown + `.join() === "/votes/b"`)
	b.await(width(0) + ` > 100`)
	find("")
	b.await(rows + `.length === 10`)
	close(stop)
	wg.Wait()

	// Names are text.
	for _, name := range hostile {
		names.add(name, math.MaxInt64/100)
	}
	for _, name := range hostile {
		want := shownName(name)
		b.await(shown + fmt.Sprintf(`.includes(%s)`, quoteJS(want)))
	}
	b.await(rows + `[0].lastElementChild.previousElementSibling.textContent === "92,233,720,368,547,758"`) // past 2^53, exactly
	b.await(`document.querySelectorAll("#counters *:not(li):not(bdi):not(span):not(i):not(b)").length === 0`)
	b.fits("hostile names")
	b.shoot("hostile-light")
	b.size(390, 844)
	b.fits("hostile names, narrow")

	f.tooMany.Add(12)
	b.alarm("No room for more counters", "22 of 1,000,000", "507")
}

// shownName is what the page shows of a name.
func shownName(name string) string {
	return strings.NewReplacer("\u202e", `\u202e`, "\t", `\u0009`).Replace(shown(counter.Named{Name: name}).Name)
}

func quoteJS(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// fill gives the charts a history worth looking at.
func fill(s *Server, f *fake) {
	for range 200 {
		s.opts.Commits.Observe(61, 12, 160*time.Microsecond, nil)
	}
	s.opts.Commits.Observe(140, 90, 400*time.Microsecond, nil)
	f.jump(48_213_907)
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	s.live.started = time.Now().Add(-220 * time.Hour)
	s.live.now.Uptime = 220 * 3600
	s.live.history = s.live.history[:0]
	for i := range historySeconds {
		x := float64(i)
		hits := 41000 + 6000*math.Sin(x/40) + 1500*math.Sin(x/7.1) + 700*math.Sin(x*1.7)
		p50 := 150e-6 + 15e-6*math.Sin(x/19) + 6e-6*math.Sin(x*2.3)
		p99 := p50 * (2.6 + 0.5*math.Sin(x/31) + 0.3*math.Sin(x*3.7))
		s.live.history = append(s.live.history, sample{Hits: math.Round(hits), P50: &p50, P99: &p99})
	}
}
