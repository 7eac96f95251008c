package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/counterd/counterd/bench/load"
	"github.com/counterd/counterd/bench/stat"
)

// SchemaVersion of results.json; bench/README.md describes it.
const SchemaVersion = 1

// ResultsFile is the name of a run's results below its directory.
const ResultsFile = "results.json"

// Results is all that a run found. The report and the charts are made out of
// it alone.
type Results struct {
	Schema      int         `json:"schema"`
	Run         string      `json:"run"`
	Mode        string      `json:"mode"`
	Started     time.Time   `json:"started"`
	Finished    time.Time   `json:"finished"`
	Interrupted bool        `json:"interrupted,omitempty"`
	Seed        uint64      `json:"seed"` // of the order of turns
	Environment Environment `json:"environment"`
	Plan        []Step      `json:"plan"`
	Contenders  []About     `json:"contenders"`
	NotMeasured []Absence   `json:"not_measured"`
	Samples     []Sample    `json:"samples"`
	Checks      []Check     `json:"checks,omitempty"`
}

// About is what a reader must know of a contender.
type About struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Protocol string `json:"protocol"`
	Kind     string `json:"kind"`
}

// Absence says what was not measured, and why.
type Absence struct {
	Scenario  string `json:"scenario,omitempty"` // empty: in none
	Point     string `json:"point,omitempty"`    // empty: at none
	Contender string `json:"contender,omitempty"`
	Why       string `json:"why"`
	// Failed: it should have worked. It fails the run.
	Failed bool `json:"failed,omitempty"`
}

// Sample is one turn of one contender.
type Sample struct {
	Scenario  string    `json:"scenario"`
	Point     string    `json:"point"`
	Contender string    `json:"contender"`
	Round     int       `json:"round"`
	At        time.Time `json:"at"`
	// Invalid says why the figures must not be used; empty: they may.
	Invalid string `json:"invalid,omitempty"`

	Client load.Result `json:"client"`
	// Counted is how much the server's count rose; -1: it has none.
	Counted int64  `json:"counted"`
	Server  Server `json:"server"`
	// Output of the load generator, kept where it is compared by eye.
	Output string `json:"output,omitempty"`
}

// Server is what the kernel said of the server's process tree. Times are per
// request, in microseconds. Zero: not measured.
type Server struct {
	CPU         float64 `json:"cpu_us,omitempty"`
	User        float64 `json:"user_us,omitempty"`
	Kernel      float64 `json:"kernel_us,omitempty"`
	Backend     float64 `json:"backend_cpu_us,omitempty"` // the database behind it
	Voluntary   float64 `json:"voluntary_switches,omitempty"`
	Involuntary float64 `json:"involuntary_switches,omitempty"`
	Syscalls    float64 `json:"syscalls,omitempty"`
	PeakRSS     int64   `json:"peak_rss_bytes,omitempty"`
	// PerConnection is resident memory per idle connection (scenario idle).
	PerConnection float64 `json:"bytes_per_connection,omitempty"`
	// Others is the share of the machine's time that went neither to the
	// contender nor to the client.
	Others float64 `json:"others_share,omitempty"`
	// Stolen is the share of the machine's time that the hypervisor took.
	Stolen float64 `json:"stolen_share,omitempty"`
}

// Metric is a figure that samples have.
type Metric struct {
	Name string
	Unit string
	// Get returns the figure, false when the sample hasn't got it.
	Get func(Sample) (float64, bool)
}

func positive(get func(Sample) float64) func(Sample) (float64, bool) {
	return func(s Sample) (float64, bool) { v := get(s); return v, v > 0 }
}

// The metrics.
var (
	RPS      = Metric{"requests per second", "/s", positive(func(s Sample) float64 { return s.Client.RPS })}
	CPU      = Metric{"server CPU per request", "µs", positive(func(s Sample) float64 { return s.Server.CPU })}
	AllCPU   = Metric{"CPU per request with the database's", "µs", positive(func(s Sample) float64 { return s.Server.CPU + s.Server.Backend })}
	Database = Metric{"the database's CPU per request", "µs", positive(func(s Sample) float64 { return s.Server.Backend })}
	Kernel   = Metric{"of it in the kernel", "µs", positive(func(s Sample) float64 { return s.Server.Kernel })}
	User     = Metric{"of it in the program", "µs", positive(func(s Sample) float64 { return s.Server.User })}
	Peak     = Metric{"peak memory", "MiB", positive(func(s Sample) float64 { return float64(s.Server.PeakRSS) / (1 << 20) })}
	PerConn  = Metric{"memory per idle connection", "B", func(s Sample) (float64, bool) {
		return s.Server.PerConnection, s.Scenario == "idle"
	}}
	Syscalls = Metric{"system calls per request", "", positive(func(s Sample) float64 { return s.Server.Syscalls })}
	Switches = Metric{"context switches per request", "", positive(func(s Sample) float64 {
		return s.Server.Voluntary + s.Server.Involuntary
	})}
	// ClientBusy near 100 % of a core per thread: the client is the slower side.
	ClientBusy  = Metric{"the client's CPU", "% of a core", positive(func(s Sample) float64 { return 100 * s.Client.Busy() })}
	MeanLatency = Metric{"mean latency", "µs", positive(func(s Sample) float64 { return s.Client.Latency.Mean })}
	P50         = Metric{"median latency", "µs", positive(func(s Sample) float64 { return s.Client.Latency.P50 })}
	P99         = Metric{"99th percentile", "µs", positive(func(s Sample) float64 { return s.Client.Latency.P99 })}
	P999        = Metric{"99.9th percentile", "µs", positive(func(s Sample) float64 { return s.Client.Latency.P999 })}
	Lag         = Metric{"how late the sender was, 99th percentile", "µs", positive(func(s Sample) float64 { return s.Client.Lag })}
	MaxLatency  = Metric{"longest", "µs", positive(func(s Sample) float64 { return s.Client.Latency.Max })}
	// Turn is the time that one request takes when one connection asks again
	// and again: client and server together.
	Turn = Metric{"time per request", "µs", positive(func(s Sample) float64 {
		if s.Client.RPS == 0 {
			return 0
		}
		return 1e6 / s.Client.RPS
	})}
)

// At names a place in the results.
type At struct{ Scenario, Point, Contender string }

// Values returns the valid figures by round.
func (r *Results) Values(at At, m Metric) map[int]float64 {
	values := map[int]float64{}
	for _, s := range r.Samples {
		if s.Invalid != "" || s.Scenario != at.Scenario || s.Point != at.Point || s.Contender != at.Contender {
			continue
		}
		if v, ok := m.Get(s); ok {
			values[s.Round] = v
		}
	}
	return values
}

// Summary is the median of the figure over the rounds, and its interval.
func (r *Results) Summary(at At, m Metric) stat.Interval {
	var all []float64
	for _, v := range r.Values(at, m) {
		all = append(all, v)
	}
	return stat.Summarize(all)
}

// Ratio compares two contenders round by round.
func (r *Results) Ratio(a, b At, m Metric) stat.Interval {
	return stat.Ratio(r.Values(a, m), r.Values(b, m))
}

// Measured lists the contenders that have a valid sample there, in the order
// of Contenders.
func (r *Results) Measured(scenario, point string) []About {
	has := map[string]bool{}
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Point == point && s.Invalid == "" {
			has[s.Contender] = true
		}
	}
	var found []About
	for _, c := range r.Contenders {
		if has[c.Name] {
			found = append(found, c)
		}
	}
	return found
}

// Title of a contender.
func (r *Results) Title(name string) string {
	for _, c := range r.Contenders {
		if c.Name == name {
			return c.Title
		}
	}
	return name
}

// Noise is how far two runs of the very same program were apart: the larger
// end of the interval of their ratio, as a share. Not measured: 2 %.
func (r *Results) Noise(m Metric) float64 {
	const assumed = 0.02
	contender := ""
	for _, s := range r.Samples {
		if s.Scenario == "noise" {
			contender = s.Contender
		}
	}
	ratio := r.Ratio(At{"noise", "again", contender}, At{"noise", "once", contender}, m)
	if ratio.N == 0 {
		return assumed
	}
	return max(ratio.Hi-1, 1-ratio.Lo, 0)
}

// Others is the median share of the machine that went to neither contender nor
// client while it was measured. Containers don't count: their proxy is a part
// of what is measured.
func (r *Results) Others() float64 {
	var all []float64
	for _, s := range r.Samples {
		if s.Scenario != "docker" {
			all = append(all, s.Server.Others)
		}
	}
	return stat.Summarize(all).Center
}

// Wrong says why the run must not be trusted; nil: nothing is wrong.
func (r *Results) Wrong() error {
	var wrong []error
	for _, s := range r.Samples {
		if s.Invalid != "" {
			wrong = append(wrong, fmt.Errorf("%s %s, %s, round %d: %s", s.Scenario, s.Point, s.Contender, s.Round+1, s.Invalid))
		}
	}
	return errors.Join(wrong...)
}

// Failed says what should have been measured and wasn't; nil: nothing.
func (r *Results) Failed() error {
	var failed []error
	for _, a := range r.NotMeasured {
		if a.Failed {
			why, _, _ := strings.Cut(a.Why, "\n")
			failed = append(failed, fmt.Errorf("%s %s, %s: %s", a.Scenario, a.Point, a.Contender, why))
		}
	}
	return errors.Join(failed...)
}

// Save writes results.json into dir.
func (r *Results) Save(dir string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	part := filepath.Join(dir, ResultsFile+".part")
	if err := os.WriteFile(part, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(dir, ResultsFile))
}

// Load reads a run's results.json.
func Load(dir string) (*Results, error) {
	b, err := os.ReadFile(filepath.Join(dir, ResultsFile))
	if err != nil {
		return nil, err
	}
	var r Results
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ResultsFile), err)
	}
	if r.Schema != SchemaVersion {
		return nil, fmt.Errorf("%s has schema %d, this lab reads %d", dir, r.Schema, SchemaVersion)
	}
	return &r, nil
}
