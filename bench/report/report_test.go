package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/stat"
)

// results are made up; speed multiplies counterd's.
func results(speed float64) *lab.Results {
	r := &lab.Results{
		Schema: lab.SchemaVersion, Run: "x", Mode: lab.ModeFull, Started: time.Unix(0, 0).UTC(), Finished: time.Unix(60, 0).UTC(),
		NotMeasured: []lab.Absence{{Contender: "nginx", Why: "nginx is not installed"}},
	}
	rps := map[string]float64{"gnet-mem": 160e3, "goroutine-mem": 150e3, "std-mem": 100e3, "fasthttp": 159e3, "epoll": 165e3,
		"gnet-file": 130e3, "epoll-file": 140e3, "redis-always": 101e3, "seed-asyncio": 5e3, "gnet-pg": 50e3}
	for _, name := range []string{"gnet-mem", "goroutine-mem", "std-mem", "gnet-file", "gnet-pg", "epoll", "epoll-file", "fasthttp", "seed-asyncio", "redis-always"} {
		protocol := "HTTP"
		if strings.HasPrefix(name, "redis") {
			protocol = "Redis"
		}
		title := name
		if strings.HasPrefix(name, "seed") {
			title = "the seed: aiohttp + asyncpg"
		}
		r.Contenders = append(r.Contenders, lab.About{Name: name, Title: title, Protocol: protocol, Kind: "memory", Kept: 640, Rules: 653})
		for round := range 3 {
			s := lab.Sample{Contender: name, Round: round, Counted: 1,
				Client: load.Result{RPS: rps[name] * (1 + 0.01*float64(round)), Requests: 1, Latency: load.Latency{Mean: 600, P50: 580, P99: 1200, P999: 4000}},
				Server: lab.Server{CPU: 1e6 / rps[name], Kernel: 0.7e6 / rps[name], PeakRSS: 20 << 20, PerConnection: 1000}}
			for _, at := range [][2]string{{"pinned", "c=100"}, {"seed", "c=100"}, {"idle", "c=10000"}, {"open", "30,000/s"}} {
				s.Scenario, s.Point = at[0], at[1]
				r.Samples = append(r.Samples, s)
			}
		}
	}
	r.Duels = []lab.Duel{
		duel("noise", "pinned", "gnet-mem", "gnet-mem", 1, 1),
		duel("pinned", "c=100", "gnet-mem", "std-mem", 1.6*speed, 0.6/speed),
		duel("pinned", "c=100", "gnet-mem", "fasthttp", 1.004, 1.003),
		duel("pinned", "c=100", "gnet-mem", "goroutine-mem", 1.1*speed, 0.9/speed),
		duel("connections", "c=1", "gnet-mem", "goroutine-mem", 0.9, 1.1),
		duel("connections", "c=10", "gnet-mem", "goroutine-mem", 1.001, 0.999),
	}
	return r
}

func duel(scenario, point, a, b string, rps, cpu float64) lab.Duel {
	around := func(center float64) stat.Interval {
		return stat.Interval{Center: center, Lo: 0.99 * center, Hi: 1.01 * center, N: 24, Kind: stat.Confidence95}.Rounded()
	}
	d := lab.Duel{Scenario: scenario, Point: point, A: a, B: b, RPS: around(rps), CPU: around(cpu), P99: around(1)}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 24 {
		x := 1 + 0.1*rng.Float64()
		d.Pairs = append(d.Pairs, lab.Pair{{RPS: 1e5 * rps * x, CPU: 5 * cpu / x, P99: 900}, {RPS: 1e5 * x, CPU: 5 / x, P99: 900}})
	}
	return d
}

func written(t *testing.T, r *lab.Results) string {
	t.Helper()
	dir := t.TempDir()
	if err := Write(r, dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestThePageAnswersInSentences(t *testing.T) {
	page := written(t, results(1))
	for _, want := range []string{
		"- Own stack on an event loop against net/http, 100 connections (which keeps 640 of 653 HTTP rules): **1.60×** (1.58–1.62) requests per second, **0.60×** (0.59–0.61) CPU.",
		"- Against fasthttp (which keeps 640 of 653 HTTP rules): 1.00× (0.99–1.01) requests per second, 1.00× (0.99–1.01) CPU.",
		"## Where the event loop loses\n\n- One connection: **0.90×**",
		"## Where no difference was seen\n\n- 10 connections: 1.00×",
		"## Where it wins\n\n- 100 connections: **1.10×**",
		"| fasthttp | 640 of 653 |",
		"nginx is not installed",
		"\\* another protocol",
		"![Requests per second](headline.svg)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("report.md lacks %q", want)
		}
	}
	if strings.Index(page, "event loop loses") > strings.Index(page, "Where it wins") {
		t.Error("its losses don't come first")
	}
	if n := strings.Count(page, ".svg)"); n > 5 {
		t.Errorf("%d charts", n)
	}
	if t.Failed() {
		t.Log(page)
	}
}

// picture is what a chart says and where.
type picture struct {
	Width  float64 `xml:"width,attr"`
	Height float64 `xml:"height,attr"`
	Texts  []struct {
		X      float64 `xml:"x,attr"`
		Y      float64 `xml:"y,attr"`
		Anchor string  `xml:"text-anchor,attr"`
		Words  string  `xml:",chardata"`
	} `xml:"text"`
	Rects []struct {
		X     string `xml:"x,attr"`
		Width string `xml:"width,attr"`
	} `xml:"rect"`
}

// Nothing of a chart may lie outside its picture, whatever the viewer's font.
func TestChartsKeepWithinTheirPictures(t *testing.T) {
	dir := t.TempDir()
	if err := Write(results(1), dir); err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string]string{
		"headline": "requests per second, gnet beside it = 1", "loop": "event loop →", "seed": "the seed: aiohttp + asyncpg",
		"latency": "99.9 %", "memory": "bytes of resident memory per connection",
	} {
		b, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Contains(b, []byte(words)) {
			t.Errorf("%s.svg has no %q", name, words)
		}
		var p picture
		if err := xml.Unmarshal(b, &p); err != nil {
			t.Errorf("%s.svg: %v", name, err)
			continue
		}
		for _, text := range p.Texts {
			from, to := text.X, text.X+textWidth(text.Words)
			switch text.Anchor {
			case atEnd:
				from, to = text.X-textWidth(text.Words), text.X
			case atMiddle:
				from, to = text.X-textWidth(text.Words)/2, text.X+textWidth(text.Words)/2
			}
			if from < 0 || to > p.Width || text.Y > p.Height-4 {
				t.Errorf("%s.svg: %q reaches from %.0f to %.0f of %.0f, at %.0f of %.0f", name, text.Words, from, to, p.Width, text.Y, p.Height)
			}
		}
		for _, r := range p.Rects {
			x, _ := strconv.ParseFloat(r.X, 64)
			if w, err := strconv.ParseFloat(r.Width, 64); err == nil && (w < 0 || x+w > p.Width) {
				t.Errorf("%s.svg: a bar from %s, %s wide", name, r.X, r.Width)
			}
		}
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s.svg: %v", name, err)
				break
			}
		}
	}
}

func TestAnInvalidFigureIsShoutedAndNotShown(t *testing.T) {
	r := results(1)
	for i := range r.Samples {
		if r.Samples[i].Contender == "std-mem" {
			r.Samples[i].Invalid = "the server counted 5, the client completed 9"
		}
	}
	r.Duels[1].Invalid = "std-mem: the server counted 5, the client completed 9"
	page := written(t, r)
	if !strings.Contains(page, "must not be trusted") {
		t.Error("nobody is warned")
	}
	if strings.Contains(page, "Own stack on an event loop against net/http") || strings.Contains(page, "| std-mem |") {
		t.Error("an invalid figure is shown")
	}
	if strings.Contains(page, "agreed with the client's") {
		t.Error("counts are said to agree")
	}
}

func TestWhatClaimsNothingSaysWhy(t *testing.T) {
	r := results(1)
	r.Duels[3].NoClaim = "others used 34 % of the machine"
	page := written(t, r)
	if !strings.Contains(page, "## Where nothing can be said\n\n- 100 connections: nothing is claimed, since others used 34 %") {
		t.Errorf("a busy machine is kept secret:\n%s", page)
	}
	if !strings.Contains(page, "## Where it wins\n\nNowhere") {
		t.Error("and it is ranked")
	}
	r.Duels = r.Duels[1:] // no noise
	if strings.Contains(written(t, r), "**1.60×**") {
		t.Error("without a measured noise there is a claim")
	}
}

func TestErrorsOfTheClientAreTold(t *testing.T) {
	r := results(1)
	r.Samples[0].Client.Errors.Timeout = 7
	if !strings.Contains(written(t, r), "timeout 7") {
		t.Error("seven timeouts are kept secret")
	}
}

func TestFactorsAreToldApart(t *testing.T) {
	for v, want := range map[float64]string{28.48: "28.5", 1.881: "1.88", 0.52: "0.52", 0.0334: "0.033"} {
		if got := factor(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestAPassIsNotSurerThanItsInterval(t *testing.T) {
	for _, c := range []struct {
		lo, hi, limit float64
		atMost        bool
		want          string
	}{
		{0.81, 0.99, 0.80, false, "pass"},
		{0.74, 0.99, 0.80, false, "pass by the median; the interval reaches beyond"},
		{1.00, 1.28, 1.20, true, "pass by the median; the interval reaches beyond"},
		{1.00, 1.19, 1.20, true, "pass"},
	} {
		got := verdict(lab.Check{Pass: true, Ratio: stat.Interval{Lo: c.lo, Hi: c.hi, N: 5}, Limit: c.limit, AtMost: c.atMost})
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestNothingMeasuredIsAReportToo(t *testing.T) {
	if err := Write(&lab.Results{Interrupted: true}, t.TempDir()); err != nil {
		t.Error(err)
	}
	Print(io.Discard, &lab.Results{Interrupted: true})
}

func TestCompareSeesWhatChangedAndOnlyThat(t *testing.T) {
	var same, faster bytes.Buffer
	Compare(&same, results(1), results(1.005))
	if !strings.Contains(same.String(), "\n0 figures changed") {
		t.Errorf("half a percent within intervals of 1 %% is no change:\n%s", same.String())
	}
	Compare(&faster, results(1), results(1.5))
	if !strings.Contains(faster.String(), "pinned c=100, gnet-mem : std-mem: requests/s") || !strings.Contains(faster.String(), "\n4 figures changed") {
		t.Errorf("half as much again was overlooked:\n%s", faster.String())
	}
}

func TestNumbersForPeople(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.4123: "0.41", 5.2: "5.20", 25.71: "25.7", 888: "888", 163201: "163,201", 1234567: "1,234,567", 0.00123: "0.0012"} {
		if got := significant(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	for us, want := range map[float64]string{78: "78.0 µs", 1_030: "1.03 ms", 2_500_000: "2.50 s"} {
		if got := microseconds(us); got != want {
			t.Errorf("%v µs: %q, want %q", us, got, want)
		}
	}
}
