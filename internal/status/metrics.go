package status

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// collector makes the metrics of a run from a Snapshot.
type collector struct{ source Source }

// metricsSource is a Source that also provides the histograms of the metrics.
type metricsSource interface{ Histogram() Histogram }

// Histogram is a histogram of durations in seconds.
type Histogram struct {
	Count int64
	Sum   time.Duration
	// buckets are the counts of histogram.
	buckets [bucketCount]int64
}

// Histogram returns a copy of the histogram of durations.
func (r *Recorder) Histogram() Histogram {
	h := Histogram{Sum: time.Duration(r.durations.sum.Load())}
	for i := range h.buckets {
		h.buckets[i] = r.durations.buckets[i].Load()
		h.Count += h.buckets[i]
	}
	return h
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ctworker_"+name, help, labels, nil)
}

var (
	buildInfo      = describe("build_info", "Always 1. The labels describe the program.", "version", "go_version")
	taskAttempts   = describe("task_attempts_total", "Attempts of tasks that have ended, by outcome.", "outcome")
	taskRetries    = describe("task_retries_total", "Attempts that were followed by a retry.")
	tasksRunning   = describe("tasks_running", "Tasks that run now.")
	tasksInFlight  = describe("tasks_unreported", "Tasks that have ended and whose events have not been written yet.")
	tasksWaiting   = describe("tasks_waiting_for_retry", "Tasks that wait for a retry.")
	tasksTotal     = describe("run_tasks", "Tasks of the run, possibly estimated. Missing if the number is unknown.")
	tasksDone      = describe("run_tasks_done", "Tasks of the run with a final event, including those done by earlier runs.")
	slotsDesc      = describe("slots", "Tasks that can run at the same time.")
	stopping       = describe("stopping", "1 if no further tasks are fetched, otherwise 0.")
	durationDesc   = describe("task_duration_seconds", "Duration of the attempts of tasks.")
	engineCPU      = describe("engine_cpu_seconds_total", "CPU time of ctworker itself, without the tasks.")
	engineMemory   = describe("engine_peak_memory_bytes", "Largest memory of ctworker itself, without the tasks.")
	goroutines     = describe("engine_goroutines", "Goroutines of ctworker.")
	queueInFlight  = describe("queue_tasks_in_flight", "Tasks received from the queue and not settled.")
	leasesExtended = describe("queue_lease_extensions_total", "Extensions of leases.")
	extendFailures = describe("queue_lease_extension_failures_total", "Attempts to extend a lease that failed.")
	leasesLost     = describe("queue_leases_lost_total", "Tasks whose lease was lost while they ran.")
	settleFailed   = describe("queue_settle_failures_total", "Tasks that could not be acknowledged or released.")
	malformed      = describe("queue_malformed_messages_total", "Messages of the queue that were not tasks.")
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, taskAttempts, taskRetries, tasksRunning, tasksInFlight, tasksWaiting, tasksTotal, tasksDone, slotsDesc, stopping, durationDesc,
		engineCPU, engineMemory, goroutines, queueInFlight, leasesExtended, extendFailures, leasesLost, settleFailed, malformed,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	s := c.source.Snapshot(ctx)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(buildInfo, 1, s.Version, runtime.Version())
	for outcome, n := range map[string]int64{
		"completed": s.Tasks.Completed, "exception": s.Tasks.Exception, "timed_out": s.Tasks.TimedOut, "exited": s.Tasks.Exited,
		"interrupted": s.Tasks.Interrupted, "lease_lost": s.Tasks.LeaseLost,
	} {
		counter(taskAttempts, float64(n), outcome)
	}
	counter(taskRetries, float64(s.Tasks.Retries))
	gauge(tasksRunning, float64(s.Tasks.Running))
	gauge(tasksInFlight, float64(s.Tasks.Unreported))
	gauge(tasksWaiting, float64(s.Tasks.WaitingForRetry))
	if s.Tasks.Total != nil {
		gauge(tasksTotal, float64(*s.Tasks.Total))
	}
	gauge(tasksDone, float64(s.Tasks.Done))
	gauge(slotsDesc, float64(s.Slots))
	isStopping := 0.0
	if s.Phase != PhaseRunning {
		isStopping = 1
	}
	gauge(stopping, isStopping)
	counter(engineCPU, s.Engine.CPUSeconds)
	gauge(engineMemory, float64(s.Engine.PeakMemoryBytes))
	gauge(goroutines, float64(s.Engine.Goroutines))
	if q := s.Queue; q != nil {
		gauge(queueInFlight, float64(q.InFlight))
		counter(leasesExtended, float64(q.LeasesExtended))
		counter(extendFailures, float64(q.ExtendFailed))
		counter(leasesLost, float64(s.Tasks.LeaseLost))
		counter(settleFailed, float64(q.SettleFailed))
		counter(malformed, float64(q.Malformed))
	}
	if h, ok := c.source.(metricsSource); ok {
		out <- h.Histogram().metric(s.StartedAt)
	}
}

// metric returns a histogram with native buckets, and with a classic bucket per power of four.
func (h Histogram) metric(created time.Time) prometheus.Metric {
	native := map[int]int64{}
	classic := map[float64]uint64{}
	total := uint64(0)
	const perPower = 1 << schema
	for i, n := range h.buckets {
		total += uint64(n)
		if n > 0 {
			native[i+minExponent*perPower] = n
		}
		if i%(2*perPower) == 0 {
			classic[upperBound(i)] = total
		}
	}
	const noZeroBucket, zeroThreshold = 0, 0
	withNative, err := prometheus.NewConstNativeHistogram(durationDesc, uint64(h.Count), h.Sum.Seconds(), native, nil, noZeroBucket, schema, zeroThreshold, created)
	if err != nil {
		return prometheus.NewInvalidMetric(durationDesc, err)
	}
	withClassic, err := prometheus.NewConstHistogram(durationDesc, uint64(h.Count), h.Sum.Seconds(), classic)
	if err != nil {
		return prometheus.NewInvalidMetric(durationDesc, err)
	}
	return bothHistograms{withNative, withClassic}
}

// bothHistograms is a histogram with native and with classic buckets. A server that does not know native
// histograms uses the classic buckets.
type bothHistograms struct {
	prometheus.Metric // with native buckets
	classic           prometheus.Metric
}

// Write implements prometheus.Metric.
func (b bothHistograms) Write(out *dto.Metric) error {
	var classic dto.Metric
	if err := errors.Join(b.Metric.Write(out), b.classic.Write(&classic)); err != nil {
		return err
	}
	out.Histogram.Bucket = classic.GetHistogram().GetBucket()
	return nil
}
