package report

import "time"

// A Report describes a run. It is also the JSON output.
type Report struct {
	Summary  Summary       `json:"summary"`
	Time     TimeSeries    `json:"time"`
	Duration *Distribution `json:"duration_seconds,omitempty"`
	Memory   *Distribution `json:"peak_memory_bytes,omitempty"`
	CPU      *Distribution `json:"cpu_seconds,omitempty"`
	Slowest  []Attempt     `json:"slowest"`
	Largest  []Attempt     `json:"largest"`
	Failures []Failure     `json:"failures"`
	// OtherFailures is the number of failed attempts that are not in Failures.
	OtherFailures int64     `json:"other_failures"`
	Attempts      []int64   `json:"attempts"` // the attempts by their number, from 1; the last element counts all later ones
	Spot          []Notice  `json:"spot_terminations"`
	Hosts         []Host    `json:"hosts"`
	OtherHosts    int64     `json:"other_hosts"`
	Cost          *Cost     `json:"cost,omitempty"`
	Problems      []Problem `json:"problems"`
	Notes         []string  `json:"notes"`
	timeline      timeline
	logs          []string
}

// A Summary has the totals of a run. Times are in seconds.
type Summary struct {
	Tasks            int64      `json:"task_count"` // tasks with a final event
	Completed        int64      `json:"completed"`
	Failed           int64      `json:"failed"`
	Attempts         int64      `json:"attempt_count"`
	AttemptsBy       Outcomes   `json:"attempts"`
	Rerun            int64      `json:"rerun"`
	RetryDenied      int64      `json:"retry_denied"`
	Unfinished       int64      `json:"unfinished"`    // estimate
	WithoutEvent     int64      `json:"without_event"` // estimate
	Start            *time.Time `json:"start"`
	End              *time.Time `json:"end"`
	ActiveSeconds    float64    `json:"active_seconds"`
	Hosts            int64      `json:"hosts"`
	Workers          int64      `json:"workers"`
	Slots            int64      `json:"slots"`
	BusySeconds      float64    `json:"busy_slot_seconds"`
	CapacitySeconds  float64    `json:"slot_seconds"`
	MachineSeconds   float64    `json:"machine_seconds"`
	CPUSeconds       float64    `json:"cpu_seconds"`
	CPUShare         float64    `json:"cpu_share"` // of the elapsed time of the attempts with cpu_seconds
	TasksPerSecond   float64    `json:"tasks_per_second"`
	FatalExceptions  int64      `json:"fatal_exceptions"`
	OtherExceptions  int64      `json:"non_fatal_exceptions"`
	SpotTerminations int64      `json:"spot_terminations"`
}

// Outcomes are numbers of attempts.
type Outcomes struct {
	Completed int64 `json:"completed"`
	Exception int64 `json:"exception"`
	TimedOut  int64 `json:"timed_out"`
	Exited    int64 `json:"exited"`
	Retried   int64 `json:"retried"`
}

func outcomesOf(n [classes]int64) Outcomes {
	return Outcomes{n[completed], n[exception], n[timedOut], n[exited], n[retried]}
}

// A TimeSeries has the attempts over time.
type TimeSeries struct {
	BucketSeconds float64  `json:"bucket_seconds"`
	Buckets       []Bucket `json:"buckets"`
	segments      []segment
	width         int64
}

// A Bucket has the attempts that ended in a period, and how many slots were busy, and
// how many there were, on average.
type Bucket struct {
	Start time.Time `json:"start"`
	Outcomes
	BusySlots float64 `json:"busy_slots"`
	Slots     float64 `json:"slots"` // of the active workers
}

// A Distribution is a histogram with quantiles. The quantiles are exact to about two percent.
type Distribution struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	Min   float64 `json:"min"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
	Bars  []Bar   `json:"bars"`
}

// A Bar counts the values in [From, To).
type Bar struct {
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Count int64   `json:"count"`
}

// An Attempt is one attempt of a task. Negative numbers are unknown.
type Attempt struct {
	TaskID      string     `json:"task_id"`
	Host        string     `json:"hostname"`
	Outcome     string     `json:"outcome"`
	Retry       bool       `json:"retry"`
	Attempt     int        `json:"attempt"`
	Slot        int        `json:"slot"`
	Seconds     float64    `json:"elapsed_seconds"`
	CPUSeconds  float64    `json:"cpu_seconds"`
	MemoryBytes int64      `json:"peak_memory_bytes"`
	End         *time.Time `json:"end"`
}

// A Failure is a group of failed attempts with similar messages.
type Failure struct {
	Outcome     string     `json:"outcome"`
	Message     string     `json:"message"` // with placeholders
	Example     string     `json:"example"`
	Count       int64      `json:"count"`
	Retried     int64      `json:"retried"`
	SlotSeconds float64    `json:"slot_seconds"`
	First       *time.Time `json:"first"`
	Last        *time.Time `json:"last"`
	TaskIDs     []string   `json:"task_ids"`
}

// A Notice is a termination notice. SlotsCut and LostSeconds are estimates.
type Notice struct {
	Time          *time.Time `json:"time"`
	Host          string     `json:"hostname"`
	Kind          string     `json:"kind"`
	Action        string     `json:"action"`
	Deadline      *time.Time `json:"deadline"`
	FinishedAfter int64      `json:"finished_after"`
	SlotsCut      int64      `json:"slots_cut"`
	LostSeconds   float64    `json:"lost_slot_seconds"`
	LostCost      float64    `json:"lost_cost"`
}

// A Host has the totals of a machine.
type Host struct {
	Name            string     `json:"hostname"`
	Workers         int64      `json:"workers"`
	Slots           int64      `json:"slots"`
	Attempts        int64      `json:"attempt_count"`
	Failed          int64      `json:"failed"`
	Retried         int64      `json:"retried"`
	MachineSeconds  float64    `json:"machine_seconds"`
	BusySeconds     float64    `json:"busy_slot_seconds"`
	CapacitySeconds float64    `json:"slot_seconds"`
	Start           *time.Time `json:"start"`
	End             *time.Time `json:"end"`
	Terminated      bool       `json:"terminated"`
}

// A Cost divides the price of the machines by what their slots did.
type Cost struct {
	PricePerHour float64 `json:"price_per_machine_hour"`
	Total        float64 `json:"total"`
	Useful       float64 `json:"useful"`
	Failed       float64 `json:"failed"`
	Retried      float64 `json:"retried"`
	Interrupted  float64 `json:"interrupted"`
	Idle         float64 `json:"idle"`
	PerCompleted float64 `json:"per_completed_task"`
}

// A Problem is an error that a worker reported.
type Problem struct {
	Type    string     `json:"event_type"`
	Time    *time.Time `json:"time"`
	Host    string     `json:"hostname"`
	Message string     `json:"exception"`
}

// A timeline shows when slots were busy.
type timeline struct {
	rows []timelineRow
	// exact is true if the rows have the individual attempts; otherwise, they have bins.
	exact    bool
	combined int64 // the maximum number of slots in a row
}

type timelineRow struct {
	label, host string
	slots       int64
	attempts    []exactAttempt
	bins        [][]bin // by segment
}

func seconds(micros int64) float64 { return float64(micros) / 1e6 }

// timeOf returns the time, or nil if it is unknown.
func timeOf(micros int64) *time.Time {
	if micros == unknown {
		return nil
	}
	t := time.UnixMicro(micros).UTC()
	return &t
}
