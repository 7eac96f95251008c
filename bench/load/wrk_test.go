package load

import (
	"strings"
	"testing"
	"time"
)

// The seed's README has these reports.
const seedDefault = `Running 30s test @ http://localhost:8080
  4 threads and 100 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    42.58ms    4.25ms 151.98ms   96.75%
    Req/Sec   591.21     40.91   710.00     71.91%
  70569 requests in 30.04s, 10.42MB read
Requests/sec:   2349.50
Transfer/sec:    355.28KB
`

const seedDocker = `Running 30s test @ http://localhost:8080
  4 threads and 100 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   193.20ms  338.51ms   1.99s    86.23%
    Req/Sec   420.37    133.42     0.91k    70.50%
  50256 requests in 30.03s, 7.43MB read
  Socket errors: connect 0, read 80, write 0, timeout 166
Requests/sec:   1673.51
Transfer/sec:    253.31KB
`

const fast = `Running 2s test @ http://127.0.0.1:8080
  1 threads and 100 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   612.34us    1.02ms  24.61ms   98.12%
    Req/Sec   164.11k     3.20k  170.01k    75.00%
  Latency Distribution
     50%  580.00us
     75%  640.00us
     90%    1.10ms
     99%    1.02s 
  326602 requests in 2.00s, 1.41GB read
  Non-2xx or 3xx responses: 12
Requests/sec: 163201.11
Transfer/sec:     22.88MB
`

func TestParseWrk(t *testing.T) {
	for _, c := range []struct {
		name, out string
		want      Result
	}{
		{"the seed's default loop", seedDefault, Result{
			Requests: 70569, Elapsed: 30040 * time.Millisecond, RPS: 2349.50,
			Latency: Latency{Mean: 42580, Max: 151980},
		}},
		{"the seed's uvloop in Docker, with socket errors", seedDocker, Result{
			Requests: 50256, Elapsed: 30030 * time.Millisecond, RPS: 1673.51,
			Latency: Latency{Mean: 193200, Max: 1_990_000},
			Errors:  Errors{Read: 80, Timeout: 166},
		}},
		{"all units, percentiles, bad answers", fast, Result{
			Requests: 326602, Elapsed: 2 * time.Second, RPS: 163201.11,
			Latency: Latency{Mean: 612.34, Max: 24610, P50: 580, P90: 1100, P99: 1_020_000},
			Errors:  Errors{Status: 12},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseWrk(c.out)
			if err != nil {
				t.Fatal(err)
			}
			if got.Requests != c.want.Requests || got.Elapsed != c.want.Elapsed || got.RPS != c.want.RPS || got.Errors != c.want.Errors {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if g, w := got.Latency, c.want.Latency; g.Mean != w.Mean || g.Max != w.Max ||
				g.P50 != w.P50 || g.P90 != w.P90 || g.P99 != w.P99 {
				t.Errorf("latency %+v\nwant    %+v", g, w)
			}
		})
	}
}

func TestWrkTimeKnowsAllUnits(t *testing.T) {
	for in, want := range map[string]float64{
		"0.00us": 0, "912.00us": 912, "1.03ms": 1030, "2.50s": 2_500_000, "1.50m": 90_000_000, "1.00h": 3_600_000_000,
	} {
		if got, err := wrkTime(in); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := wrkTime("1.00parsec"); err == nil {
		t.Error("an unknown unit must not pass for a number")
	}
}

func TestParseWrkRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, out := range []string{"", "unable to connect to localhost:8080 Connection refused\n",
		strings.ReplaceAll(seedDefault, "requests in", "answers in")} {
		if r, err := ParseWrk(out); err == nil {
			t.Errorf("%q gave %+v", out, r)
		}
	}
}

func TestParseRedis(t *testing.T) {
	const out = `WARNING: Could not fetch server CONFIG
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"INCR hits","101010.10","0.955","0.216","0.951","1.207","1.327","2.503"
`
	r, err := parseRedis(out, 202020)
	if err != nil {
		t.Fatal(err)
	}
	if r.RPS != 101010.10 || r.Requests != 202020 || r.Latency.Mean != 955 || r.Latency.P99 != 1327 {
		t.Errorf("got %+v", r)
	}
	if got := r.Elapsed.Round(time.Millisecond); got != 2*time.Second {
		t.Errorf("took %v, want 2s", got)
	}
	if _, err := parseRedis("Could not connect to Redis", 1); err == nil {
		t.Error("an error message passed for a report")
	}
}

func TestParsePgbench(t *testing.T) {
	const out = `transaction type: update.sql
scaling factor: 1
query mode: prepared
number of clients: 100
number of transactions actually processed: 5600
number of failed transactions: 3 (0.054%)
latency average = 35.714 ms
initial connection time = 120.1 ms
tps = 2800.00 (without initial connection time)
`
	r, err := parsePgbench(out)
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 5600 || r.RPS != 2800 || r.Latency.Mean != 35714 || r.Errors.Status != 3 {
		t.Errorf("got %+v", r)
	}
}
