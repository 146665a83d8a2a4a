package digest

import (
	"encoding/json"
	"math"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// Field is the name of the field of a keep_alive event that contains the digest.
const Field = "worker"

// MaxSize is the maximum size of an encoded Digest, in bytes.
const MaxSize = 960

// maxVersion is the length to which AppendJSON cuts the version, in bytes.
const maxVersion = 40

// Phase is what a worker does.
type Phase string

// The phases of a worker.
const (
	Running  Phase = "running"  // fetches and runs tasks
	Draining Phase = "draining" // fetches no more tasks, and waits for running tasks
	Ended    Phase = "ended"    // runs no more tasks; this is the last keep_alive event
)

// A Digest describes a worker. The counts start at 0 when the worker starts.
type Digest struct {
	Phase Phase `json:"phase"`
	// Interval is the time between two keep_alive events, in seconds.
	Interval float64 `json:"interval_seconds"`
	Slots    int     `json:"slots"`
	// Running is the number of running tasks.
	Running int64 `json:"running"`
	// Completed, Exception, TimedOut and Exited are numbers of attempts with an event, by outcome.
	// Retried is the number of these attempts whose event requests a retry.
	Completed int64 `json:"completed"`
	Exception int64 `json:"exception"`
	TimedOut  int64 `json:"timed_out"`
	Exited    int64 `json:"exited"`
	Retried   int64 `json:"retried"`
	// Rate is the number of attempts per second since the last keep_alive event.
	Rate float64 `json:"tasks_per_second"`
	// P50 and P99 are quantiles of the latency, in seconds. The latency is the time from receiving a
	// task to writing its event.
	P50 float64 `json:"p50_seconds"`
	P99 float64 `json:"p99_seconds"`
	// CPU is the share of the CPU time of the machine that was used since the last keep_alive event,
	// in percent. It is negative if it is unknown.
	CPU float64 `json:"cpu_percent"`
	// MemoryUsed and MemoryTotal describe the memory of the machine, in bytes. They are 0 if they are
	// unknown.
	MemoryUsed  int64 `json:"memory_used_bytes"`
	MemoryTotal int64 `json:"memory_total_bytes"`
	// TaskPeakMemory is the largest peak memory of the process of a task, in bytes. It is 0 if it is
	// unknown.
	TaskPeakMemory int64 `json:"task_peak_memory_bytes"`
	// Version is the version of ctworker.
	Version string `json:"version"`
}

// Done returns the number of attempts with an event.
func (d *Digest) Done() int64 { return d.Completed + d.NotCompleted() }

// NotCompleted returns the number of attempts with an event other than task_completed.
func (d *Digest) NotCompleted() int64 { return d.Exception + d.TimedOut + d.Exited }

// AppendJSON appends the digest as a JSON object of at most MaxSize bytes, and returns the extended
// buffer. It cuts a long version.
func (d *Digest) AppendJSON(b []byte) []byte {
	short := *d
	if len(short.Version) > maxVersion {
		short.Version = utf8cut.Start(short.Version, maxVersion)
	}
	for _, f := range []*float64{&short.Interval, &short.Rate, &short.P50, &short.P99, &short.CPU} {
		*f = rounded(*f)
	}
	text, err := json.Marshal(short)
	if err != nil { // every field can be encoded
		panic("digest: " + err.Error())
	}
	return append(b, text...)
}

// rounded returns f with about four significant digits. JSON cannot represent infinity and NaN, which
// become 0.
func rounded(f float64) float64 {
	const digits = 4
	if f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(f)))-digits+1)
	if unit >= 1 || unit == 0 {
		return math.Round(f)
	}
	inverse := math.Round(1 / unit) // division by an integer yields the shortest decimal representation
	return math.Round(f*inverse) / inverse
}
