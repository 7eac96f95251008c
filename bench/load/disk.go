package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// DiskCommand is the hidden subcommand that runs SyncWrites in a process of its own.
const DiskCommand = "disk"

// recordSize is what one commit of counterd's file writes.
const recordSize = 32

// Disk measures what a durable answer can't do without: one 32-byte write and
// one fdatasync, one after the other, in a file in dir.
func Disk(ctx context.Context, dir string, w Workload) (Result, error) {
	self, err := os.Executable()
	if err != nil {
		return Result{}, fmt.Errorf("find the lab's own program: %w", err)
	}
	out, cpu, err := run(ctx, w.Cores, self, DiskCommand, dir, w.Duration.String())
	if err != nil {
		return Result{}, err
	}
	var r Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return Result{}, fmt.Errorf("the disk's report: %w", err)
	}
	r.CPU = cpu
	return r, nil
}

// DiskMain is the subcommand: DIR DURATION.
func DiskMain(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: %s DIR DURATION", DiskCommand)
	}
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	r, err := SyncWrites(args[0], d)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// SyncWrites writes and syncs one record in place, again and again for d.
func SyncWrites(dir string, d time.Duration) (_ Result, err error) {
	f, err := os.CreateTemp(dir, "disk-")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, 2*4096)); err != nil {
		return Result{}, err
	}
	if err := f.Sync(); err != nil {
		return Result{}, err
	}

	h := hdrhistogram.New(1, int64(time.Minute), 3)
	record := make([]byte, recordSize)
	start := time.Now()
	for n := 0; time.Since(start) < d; n++ {
		copy(record, strconv.Itoa(n))
		began := time.Now()
		if _, err := f.WriteAt(record, int64(n%2)*4096); err != nil {
			return Result{}, err
		}
		if err := datasync(f); err != nil {
			return Result{}, fmt.Errorf("fdatasync: %w", err)
		}
		_ = h.RecordValue(int64(time.Since(began)))
	}
	elapsed := time.Since(start)
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	return Result{
		Requests: h.TotalCount(),
		Elapsed:  elapsed,
		RPS:      float64(h.TotalCount()) / elapsed.Seconds(),
		Latency: Latency{
			Mean: h.Mean() / 1e3, Stdev: h.StdDev() / 1e3,
			P50: us(h.ValueAtQuantile(50)), P75: us(h.ValueAtQuantile(75)),
			P90: us(h.ValueAtQuantile(90)), P95: us(h.ValueAtQuantile(95)),
			P99: us(h.ValueAtQuantile(99)), P999: us(h.ValueAtQuantile(99.9)),
			Max: us(h.Max()),
		},
	}, nil
}
