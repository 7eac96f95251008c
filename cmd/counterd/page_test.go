package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// page shows its own number, as a page of somebody's site would.
const page = `<!doctype html>
<p>You are visitor <b id="number"></b> of <b id="count"></b>.
<script>
const show = async (id, url) => {
	const element = document.getElementById(id)
	try {
		element.textContent = JSON.stringify(await fetch(url).then(r => r.json()))
	} catch (err) {
		element.textContent = "failed: " + err
	}
}
show("number", "http://%[1]s/blog/hello").then(() => show("count", "http://%[1]s/count/blog/hello"))
</script>`

// TestPageShowsItsNumber: a page of another origin counts itself by fetch and shows
// what it gets, if --cors names its origin.
func TestPageShowsItsNumber(t *testing.T) {
	t.Parallel()
	ctx := startBrowser(t)
	var counter string // an address
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, page, counter)
	}))
	defer site.Close()

	for _, test := range []struct {
		cors  string
		shown bool
	}{{site.URL, true}, {"*", true}, {"", false}, {"https://example.com", false}} {
		p := begin(t, "--per=path", "--store=dir:"+t.TempDir()+"/d", "--cors="+test.cors)
		counter = p.listen
		for visit := range 3 {
			number, count := "failed", "failed"
			if test.shown {
				number, count = fmt.Sprint(visit+1), fmt.Sprint(visit+1)
			}
			gotNumber, gotCount := visitPage(t, ctx, site.URL)
			if gotNumber != number || gotCount != count {
				t.Errorf("--cors=%s, visit %d: it shows %q and %q, want %q and %q", test.cors, visit+1, gotNumber, gotCount, number, count)
			}
		}
		// Those whose script may not look were counted all the same.
		if n := p.get("/count/blog/hello"); n != "3" {
			t.Errorf("--cors=%s: three visits counted %s", test.cors, n)
		}
	}
}

// startBrowser starts a headless Chromium that ends with the test.
func startBrowser(t *testing.T) context.Context {
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
			t.Fatal("no Chromium, and CI must test pages")
		}
		t.Skip("no Chromium: scripts/test.sh installs it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(time.Minute))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// visitPage loads the page anew, and returns what it shows: a number, or failed
// where the browser kept the answer from the script.
func visitPage(t *testing.T, ctx context.Context, url string) (number, count string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](`document.getElementById("count").textContent !== ""`,
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(20*time.Second))); err != nil {
		t.Fatalf("the page never showed a count: %v", err)
	}
	shown := func(id string) string {
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("`+id+`").textContent`))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(text, "failed: TypeError") {
			return "failed"
		}
		return text
	}
	return shown("number"), shown("count")
}
