package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/stat"
)

// made-up results: gnet is 1.6 times as fast as std, and level with fasthttp.
func results(speed float64) *lab.Results {
	r := &lab.Results{
		Schema: lab.SchemaVersion, Run: "made-up", Mode: lab.ModeFull,
		Contenders: []lab.About{
			{Name: "gnet-mem", Title: "counterd gnet, in memory", Protocol: "HTTP", Kind: "memory"},
			{Name: "goroutine-mem", Title: "counterd goroutine, in memory", Protocol: "HTTP", Kind: "memory"},
			{Name: "std-mem", Title: "counterd std, in memory", Protocol: "HTTP", Kind: "memory"},
			{Name: "fasthttp", Title: "fasthttp", Protocol: "HTTP", Kind: "memory"},
			{Name: "gnet-file", Title: "counterd gnet, durable file", Protocol: "HTTP", Kind: "durable"},
			{Name: "redis-always", Title: "Redis INCR, appendfsync always", Protocol: "Redis", Kind: "durable"},
		},
		NotMeasured: []lab.Absence{{Contender: "nginx", Why: "nginx is not installed"}},
	}
	rps := map[string]float64{"gnet-mem": 160e3, "goroutine-mem": 150e3, "std-mem": 100e3, "fasthttp": 159e3, "gnet-file": 130e3, "redis-always": 101e3}
	for round := range 5 {
		wobble := 1 + 0.01*float64(round-2)
		for name, v := range rps {
			x := v * wobble
			if name == "fasthttp" {
				x = v * (1 + 0.02*float64(round-2)) // it leads in some rounds
			}
			s := lab.Sample{Contender: name, Round: round,
				Client: load.Result{RPS: x * speed, Requests: 1, Latency: load.Latency{Mean: 600, P50: 580, P99: 1200}},
				Server: lab.Server{CPU: 1e6 / x, User: 0.3e6 / x, Kernel: 0.7e6 / x, PeakRSS: 20 << 20}}
			for _, at := range [][2]string{{"pinned", "c=100"}, {"connections", "c=1"}, {"connections", "c=1000"}, {"pipelined", "depth=16"}} {
				s.Scenario, s.Point = at[0], at[1]
				r.Samples = append(r.Samples, s)
			}
			s.Scenario, s.Point = "idle", "c=10000"
			s.Server.PerConnection = 1000
			r.Samples = append(r.Samples, s)
			s.Scenario, s.Point = "open", "50%"
			s.Client.Latency.Curve = [][2]float64{{50, 100}, {99, 900}, {99.9, 2000}}
			r.Samples = append(r.Samples, s)
		}
	}
	return r
}

func TestWriteSaysWhatWasFoundAndWhatWasNot(t *testing.T) {
	dir := t.TempDir()
	if err := Write(results(1), dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| Event loop against net/http: *gnet-mem* : *std-mem* | **1.60×** (1.60–1.60) |",
		"| Against fasthttp: *gnet-mem* : *fasthttp* | no difference seen, 1.01×",
		"1. gnet-mem = fasthttp",
		"nginx is not installed",
		"1 connection",
		"another protocol",
		"![Requests per second by contender](rps.svg)",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("report.md lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", b)
	}
}

func TestChartsAreWholeSVGWithTheirUnits(t *testing.T) {
	dir := t.TempDir()
	if err := Write(results(1), dir); err != nil {
		t.Fatal(err)
	}
	for name, unit := range map[string]string{
		"rps": "requests per second", "cpu": "µs of CPU per request", "decomposition": "µs of server CPU per request",
		"connections": "busy connections", "latency": "percentile", "memory": "resident bytes per connection",
		"durable": "requests per second",
	} {
		b, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Contains(b, []byte(unit)) {
			t.Errorf("%s.svg has no %q", name, unit)
		}
		if bytes.Contains(b, []byte("font-family:Liberation Sans")) {
			t.Errorf("%s.svg has text of unknown width", name)
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
	dir := t.TempDir()
	if err := Write(r, dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("must not be trusted")) {
		t.Error("nobody is warned")
	}
	if bytes.Contains(b, []byte("Event loop against net/http")) {
		t.Error("an invalid figure is compared")
	}
}

func TestErrorsOfTheClientAreTold(t *testing.T) {
	r := results(1)
	r.Samples[0].Client.Errors.Timeout = 7
	var b bytes.Buffer
	intro(&b, r)
	if !strings.Contains(b.String(), "timeout 7") {
		t.Errorf("seven timeouts are kept secret:\n%s", b.String())
	}
}

func TestWhatHasNoCountIsNotSaidToAgree(t *testing.T) {
	r := results(1)
	if got := agreement(r); !strings.Contains(got, "each of them") {
		t.Errorf("all have a count: %q", got)
	}
	r.Samples[0].Counted = -1
	if want := fmt.Sprintf("the %d that have a count", len(r.Samples)-1); !strings.Contains(agreement(r), want) {
		t.Errorf("got %q, want %q in it", agreement(r), want)
	}
}

func TestFactorsAreToldApart(t *testing.T) {
	for v, want := range map[float64]string{28.48: "28.5", 1.881: "1.88", 0.52: "0.52", 0.0334: "0.033"} {
		if got := factor(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestAPassIsNotSurerThanItsRounds(t *testing.T) {
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
		got := outcome(lab.Check{Pass: true, Ratio: stat.Interval{Lo: c.lo, Hi: c.hi, N: 5}, Limit: c.limit, AtMost: c.atMost})
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestNothingMeasuredIsAReportToo(t *testing.T) {
	if err := Write(&lab.Results{Interrupted: true}, t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestCompareSeesWhatChangedAndOnlyThat(t *testing.T) {
	var same, faster bytes.Buffer
	Compare(&same, results(1), results(1.01))
	if !strings.Contains(same.String(), "\n0 figures changed") {
		t.Errorf("1 %% within intervals of 4 %% is no change:\n%s", same.String())
	}
	Compare(&faster, results(1), results(1.5))
	if !strings.Contains(faster.String(), "pinned c=100, gnet-mem: requests/s") || !strings.Contains(faster.String(), "+50.0 %") {
		t.Errorf("half as much again was overlooked:\n%s", faster.String())
	}
	if strings.Contains(faster.String(), "CPU µs/request  ") {
		t.Errorf("CPU did not change:\n%s", faster.String())
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
