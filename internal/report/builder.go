package report

import (
	"context"
	"io"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// Options are the options of a report.
type Options struct {
	// Price is the price of a machine per hour, in any currency. 0 omits the costs.
	Price float64
	// Logs are the names of the logs for the commands in the report.
	Logs []string
}

// A Builder collects what a report contains. It is not safe for concurrent use.
type Builder struct {
	opts    Options
	decoder decoder

	use                                    use // all attempts
	rerunFinals, rerunPending, retryDenied int64
	attempts                               [maxAttemptBars]int64
	finalAttempts                          int64 // sum of the attempt numbers of the final events that replace no other
	firstRunEvents                         int64 // events that are not part of a rerun
	noTime, noElapsed, noAttempt           int64
	seconds, cpu, memory                   *histogram
	cpuOf                                  float64 // seconds of the attempts with cpu_seconds
	series                                 *series
	lanes                                  *lanes
	workers                                *workers
	groups                                 groups
	slowest, largest                       top
	problems                               problems
	fatal, nonFatal                        int64
}

// maxAttemptBars is the number of attempts that are counted individually.
const maxAttemptBars = 10

// maxCells is the maximum number of buckets of the series of all attempts.
const maxCells = 1024

// NewBuilder returns an empty Builder.
func NewBuilder(opts Options) *Builder {
	return &Builder{
		opts:    opts,
		seconds: newHistogram(1e-4), cpu: newHistogram(1e-4), memory: newHistogram(1024),
		series: newSeries(maxCells), lanes: newLanes(), workers: newWorkers(),
		groups: groups{all: map[groupKey]*group{}},
		slowest: top{values: func(e *event) (float64, bool) {
			return float64(e.elapsed), e.elapsed != unknown
		}},
		largest: top{values: func(e *event) (float64, bool) {
			return float64(e.memory), e.memory != unknown
		}},
	}
}

// Read adds the events of a log. If ctx is done before the end of the log, Read returns ctx's error.
func (b *Builder) Read(ctx context.Context, log io.Reader) (damage journal.Damage, err error) {
	err = journal.Lines(ctx, log, func(number int64, line []byte, complete bool) {
		e, err := b.decoder.decode(line)
		if err != nil {
			damage.Add(number, complete)
			return
		}
		damage.Events++
		b.add(e)
	})
	return damage, err
}

func (b *Builder) add(e *event) {
	if e.isTask {
		b.addTask(e)
		return
	}
	switch string(e.eventType) {
	case `"spot_termination"`:
		if e.time != unknown {
			b.workers.addNotice(e)
		}
	case `"keep_alive"`:
		if e.time != unknown {
			b.workers.addSign(e)
		}
	case `"fatal_exception"`:
		b.fatal++
		b.problems.add(e, "fatal_exception")
	case `"non_fatal_exception"`:
		b.nonFatal++
		b.problems.add(e, "non_fatal_exception")
	}
}

func (b *Builder) addTask(e *event) {
	c := classOf(e)
	b.use.add(c, e.elapsed)
	b.countAttempt(e)
	if e.elapsed == unknown {
		b.noElapsed++
	} else {
		b.seconds.add(seconds(e.elapsed))
	}
	if e.memory != unknown {
		b.memory.add(float64(e.memory))
	}
	if e.cpu >= 0 {
		b.cpu.add(e.cpu)
		b.cpuOf += seconds(max(e.elapsed, 0))
	}
	start := e.time
	if e.elapsed != unknown {
		start = max(e.time-e.elapsed, 0)
	}
	worker, slot := b.workers.add(e, c, start)
	if e.time == unknown {
		b.noTime++
	} else {
		b.series.add(start, e.time, c)
		b.lanes.add(e, worker, slot, start, c)
	}
	host := b.workers.hosts[b.workers.all[worker].host].name
	b.slowest.add(e, host)
	b.largest.add(e, host)
	if e.Kind != journal.Completed {
		b.groups.add(e)
	}
}

func (b *Builder) countAttempt(e *event) {
	if e.Attempt == 0 {
		b.noAttempt++
	}
	n := max(e.Attempt, 1)
	b.attempts[min(n, maxAttemptBars)-1]++
	if e.retryDenied {
		b.retryDenied++
	}
	switch {
	case e.Rerun && !e.Retry:
		b.rerunFinals++
	case e.Rerun:
		b.rerunPending++
	default:
		b.firstRunEvents++
		if !e.Retry {
			b.finalAttempts += int64(n)
		}
	}
}

func classOf(e *event) class {
	switch {
	case e.Retry:
		return retried
	case e.Kind == journal.Exception:
		return exception
	case e.Kind == journal.TimedOut:
		return timedOut
	case e.Kind == journal.Exited:
		return exited
	}
	return completed
}

const (
	maxProblems    = 10
	maxProblemText = 300
)

// problems are the first events that report an error of a worker.
type problems []Problem

func (p *problems) add(e *event, eventType string) {
	if len(*p) >= maxProblems {
		return
	}
	text := textOf(jsontext.Value(slices.Clone(e.exception)))
	if len(text) > maxProblemText {
		text = utf8cut.Start(text, maxProblemText) + "…"
	}
	*p = append(*p, Problem{Type: eventType, Time: timeOf(e.time), Host: hostName(e), Message: visible(text)})
}
