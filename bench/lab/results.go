package lab

import (
	"bytes"
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
const SchemaVersion = 2

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
	Seed        uint64      `json:"seed"` // of the order of turns and of who begins a duel
	Environment Environment `json:"environment"`
	Plan        []Step      `json:"-"`
	Contenders  []About     `json:"-"`
	NotMeasured []Absence   `json:"-"`
	Samples     []Sample    `json:"-"`
	Duels       []Duel      `json:"-"`
	Checks      []Check     `json:"-"`
}

// About is what a reader must know of a contender.
type About struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Protocol string `json:"protocol"`
	Kind     string `json:"kind"`
	// Kept of Rules is its conformance score; Rules is 0 where there is none.
	Kept  int `json:"kept,omitempty"`
	Rules int `json:"rules,omitempty"`
	// Unscored says why an HTTP contender has no score.
	Unscored string `json:"unscored,omitempty"`
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
	CPU      float64 `json:"cpu_us,omitempty"`
	Kernel   float64 `json:"kernel_us,omitempty"`
	Backend  float64 `json:"backend_cpu_us,omitempty"` // the database behind it
	Switches float64 `json:"switches,omitempty"`
	Syscalls float64 `json:"syscalls,omitempty"`
	PeakRSS  int64   `json:"peak_rss_bytes,omitempty"`
	// PerConnection is resident memory per idle connection (scenario idle).
	PerConnection float64 `json:"bytes_per_connection,omitempty"`
	// Others is the share of the machine's time that went neither to the
	// contender nor to the client.
	Others float64 `json:"others_share,omitempty"`
	// Stolen is the share of the machine's time that the hypervisor took.
	Stolen float64 `json:"stolen_share,omitempty"`
}

// rounded leaves the digits that mean something.
func (s Sample) rounded() Sample {
	for _, v := range []*float64{
		&s.Client.RPS, &s.Client.Latency.Mean, &s.Client.Latency.P50, &s.Client.Latency.P90,
		&s.Client.Latency.P99, &s.Client.Latency.P999, &s.Client.Latency.Max, &s.Client.Lag,
		&s.Server.CPU, &s.Server.Kernel, &s.Server.Backend, &s.Server.Switches, &s.Server.Syscalls,
		&s.Server.PerConnection, &s.Server.Others, &s.Server.Stolen,
	} {
		*v = stat.Round(*v, 5)
	}
	return s
}

// Metric is a figure that samples have.
type Metric struct {
	Name string
	// Get returns the figure, false when the sample hasn't got it.
	Get func(Sample) (float64, bool)
}

func positive(get func(Sample) float64) func(Sample) (float64, bool) {
	return func(s Sample) (float64, bool) { v := get(s); return v, v > 0 }
}

// The metrics.
var (
	RPS      = Metric{"requests per second", positive(func(s Sample) float64 { return s.Client.RPS })}
	CPU      = Metric{"server CPU per request", positive(func(s Sample) float64 { return s.Server.CPU })}
	Database = Metric{"the database's CPU per request", positive(func(s Sample) float64 { return s.Server.Backend })}
	Kernel   = Metric{"of it in the kernel", positive(func(s Sample) float64 { return s.Server.Kernel })}
	Peak     = Metric{"peak memory, MiB", positive(func(s Sample) float64 { return float64(s.Server.PeakRSS) / (1 << 20) })}
	PerConn  = Metric{"memory per idle connection, B", func(s Sample) (float64, bool) {
		return s.Server.PerConnection, s.Scenario == "idle"
	}}
	Syscalls = Metric{"system calls per request", positive(func(s Sample) float64 { return s.Server.Syscalls })}
	Switches = Metric{"context switches per request", positive(func(s Sample) float64 { return s.Server.Switches })}
	// ClientBusy near 100 % of a core per thread: the client is the slower side.
	ClientBusy  = Metric{"the client's CPU, % of a core", positive(func(s Sample) float64 { return 100 * s.Client.Busy() })}
	MeanLatency = Metric{"mean latency", positive(func(s Sample) float64 { return s.Client.Latency.Mean })}
	P50         = Metric{"median latency", positive(func(s Sample) float64 { return s.Client.Latency.P50 })}
	P99         = Metric{"99th percentile", positive(func(s Sample) float64 { return s.Client.Latency.P99 })}
	P999        = Metric{"99.9th percentile", positive(func(s Sample) float64 { return s.Client.Latency.P999 })}
	MaxLatency  = Metric{"longest", positive(func(s Sample) float64 { return s.Client.Latency.Max })}
	Lag         = Metric{"how late the sender was, 99th percentile", positive(func(s Sample) float64 { return s.Client.Lag })}
)

// At names a place in the results.
type At struct{ Scenario, Point, Contender string }

// Summary is the median of the valid figures over the rounds, and its interval.
func (r *Results) Summary(at At, m Metric) stat.Interval {
	var all []float64
	for _, s := range r.Samples {
		if s.Invalid != "" || (At{s.Scenario, s.Point, s.Contender}) != at {
			continue
		}
		if v, ok := m.Get(s); ok {
			all = append(all, v)
		}
	}
	return stat.Summarize(all)
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

// About a contender; its name alone when the run doesn't know it.
func (r *Results) About(name string) About {
	for _, c := range r.Contenders {
		if c.Name == name {
			return c
		}
	}
	return About{Name: name, Title: name}
}

// Wrong says why the run must not be trusted; nil: nothing is wrong.
func (r *Results) Wrong() error {
	var wrong []error
	for _, s := range r.Samples {
		if s.Invalid != "" {
			wrong = append(wrong, fmt.Errorf("%s %s, %s, round %d: %s", s.Scenario, s.Point, s.Contender, s.Round+1, s.Invalid))
		}
	}
	for _, d := range r.Duels {
		if d.Invalid != "" {
			wrong = append(wrong, fmt.Errorf("%s: %s", d, d.Invalid))
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

// lists are the parts of results.json that have a line for each element.
type lists struct {
	Plan        []Step    `json:"plan"`
	Contenders  []About   `json:"contenders"`
	NotMeasured []Absence `json:"not_measured"`
	Samples     []Sample  `json:"samples"`
	Duels       []Duel    `json:"duels"`
	Checks      []Check   `json:"checks"`
}

// Save writes results.json into dir.
func (r *Results) Save(dir string) error {
	head, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	b := bytes.NewBuffer(bytes.TrimSuffix(head, []byte("\n}")))
	err = errors.Join(
		linePerElement(b, "plan", r.Plan),
		linePerElement(b, "contenders", r.Contenders),
		linePerElement(b, "not_measured", r.NotMeasured),
		linePerElement(b, "samples", r.Samples),
		linePerElement(b, "duels", r.Duels),
		linePerElement(b, "checks", r.Checks),
	)
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	b.WriteString("\n}\n")
	part := filepath.Join(dir, ResultsFile+".part")
	if err := os.WriteFile(part, b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(dir, ResultsFile))
}

func linePerElement[T any](b *bytes.Buffer, name string, all []T) error {
	fmt.Fprintf(b, ",\n %q: [", name)
	for i, one := range all {
		line, err := json.Marshal(one)
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n  ")
		b.Write(line)
	}
	b.WriteByte(']')
	return nil
}

// Load reads a run's results.json.
func Load(dir string) (*Results, error) {
	path := filepath.Join(dir, ResultsFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Results
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Schema != SchemaVersion {
		return nil, fmt.Errorf("%s has schema %d, this lab reads %d", path, r.Schema, SchemaVersion)
	}
	var l lists
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r.Plan, r.Contenders, r.NotMeasured = l.Plan, l.Contenders, l.NotMeasured
	r.Samples, r.Duels, r.Checks = l.Samples, l.Duels, l.Checks
	return &r, nil
}
