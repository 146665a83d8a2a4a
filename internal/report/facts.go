package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/units"
)

// A fact is a line of the summary.
type fact struct {
	Name, Value, Detail string
	Bad                 bool
}

// facts returns the lines of the summary.
func (r *Report) facts() []fact {
	s := r.Summary
	if s.Attempts == 0 {
		facts := []fact{{Name: "tasks", Value: "0", Detail: "the log contains no task event"}}
		return append(facts, s.eventFacts()...)
	}
	tasks := fact{Name: "tasks", Value: count(s.Tasks), Detail: fmt.Sprintf("%s completed", count(s.Completed))}
	if s.Unfinished > 0 {
		tasks.Detail += fmt.Sprintf(", about %s more wait for a retry", count(s.Unfinished))
	}
	failed := fact{Name: "failed", Value: count(s.Failed), Detail: fmt.Sprintf("%s of the tasks%s", percent(float64(s.Failed), float64(s.Tasks)), s.failureDetail()), Bad: s.Failed > 0}
	facts := []fact{tasks, failed, {Name: "attempts", Value: count(s.Attempts), Detail: s.attemptDetail()}}
	if s.Start != nil {
		facts = append(facts, fact{Name: "time", Value: formatSeconds(s.ActiveSeconds), Detail: formatTime(s.Start) + " to " + formatTime(s.End) + " UTC"},
			fact{Name: "throughput", Value: rate(s.TasksPerSecond), Detail: "average number of tasks with a final event"})
	}
	facts = append(facts, fact{Name: "machines", Value: plural(s.Hosts, "host"), Detail: plural(s.Workers, "worker") + ", at most " + plural(s.Slots, "slot") + " at the same time"})
	if s.CapacitySeconds > 0 {
		idle := s.CapacitySeconds - s.BusySeconds
		facts = append(facts, fact{Name: "slots busy", Value: percent(s.BusySeconds, s.CapacitySeconds), Detail: fmt.Sprintf("%s of slot time used, %s idle (estimate)", formatSeconds(s.BusySeconds), formatSeconds(idle))})
	}
	if r.CPU != nil {
		facts = append(facts, fact{Name: "CPU", Value: formatSeconds(s.CPUSeconds), Detail: fmt.Sprintf("%s of the run time of the tasks", percent(s.CPUShare, 1))})
	}
	if r.Cost != nil {
		facts = append(facts, fact{Name: "cost", Value: money(r.Cost.Total), Detail: fmt.Sprintf("%s useful, %s idle (estimate)", percent(r.Cost.Useful, r.Cost.Total), percent(r.Cost.Idle, r.Cost.Total))})
	}
	return append(facts, s.eventFacts()...)
}

func (s *Summary) attemptDetail() string {
	parts := []string{fmt.Sprintf("%s requested a retry", count(s.AttemptsBy.Retried))}
	if s.Rerun > 0 {
		parts = append(parts, count(s.Rerun)+" run again with --rerun")
	}
	if s.RetryDenied > 0 {
		parts = append(parts, count(s.RetryDenied)+" were denied a retry")
	}
	if s.WithoutEvent > 0 {
		parts = append(parts, "about "+count(s.WithoutEvent)+" more without an event")
	}
	return strings.Join(parts, ", ")
}

// failureDetail returns the numbers of the final events that report a failure.
func (s *Summary) failureDetail() string {
	o := s.AttemptsBy
	o.Completed, o.Retried = 0, 0
	if o.total() == 0 {
		return ""
	}
	return ": " + o.outcomeText()
}

func (s *Summary) eventFacts() (facts []fact) {
	if s.SpotTerminations > 0 {
		facts = append(facts, fact{Name: "spot", Value: units.Count(s.SpotTerminations, "notice"), Detail: "termination notices of the cloud provider"})
	}
	if n := s.FatalExceptions + s.OtherExceptions; n > 0 {
		facts = append(facts, fact{Name: "errors", Value: count(n), Detail: fmt.Sprintf("%d of them ended a run", s.FatalExceptions), Bad: true})
	}
	return facts
}

// A costPart is a part of the costs.
type costPart struct {
	Name, About string
	Amount      float64
	Class       string
}

func (c *Cost) parts() []costPart {
	return []costPart{
		{"useful", "attempts that completed", c.Useful, "c0"},
		{"failed", "attempts that failed and were not retried", c.Failed, "c3"},
		{"retried", "attempts that requested a retry", c.Retried, "c4"},
		{"interrupted", "slot time after the last event before a termination, at most", c.Interrupted, "c2"},
		{"idle", "slots without a task", c.Idle, "cidle"},
	}
}

// failedCommand returns the command that lists failed tasks.
func (r *Report) failedCommand(kind string) string {
	command := "ctworker failed"
	if kind != "" {
		command += " --kind " + kind
	}
	for i, log := range r.logs {
		if i == maxNamedLogs {
			return command + " …"
		}
		command += " " + shellWord(log)
	}
	return command
}

// maxNamedLogs is the maximum number of logs in a command.
const maxNamedLogs = 5

// shellWord returns a word for a POSIX shell.
func shellWord(word string) string {
	if strings.HasPrefix(word, "-") {
		word = "./" + word
	}
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+:@,") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// count formats a number with separators between thousands.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// plural is units.Count with separators between thousands.
func plural(n int64, noun string) string {
	return strings.Replace(units.Count(n, noun), strconv.FormatInt(n, 10), count(n), 1)
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "–"
	}
	p := 100 * part / whole
	switch {
	case p == 0:
		return "0 %"
	case p < 0.1:
		return "< 0.1 %"
	case p < 10 || p > 99 && p < 100:
		return strconv.FormatFloat(math.Floor(p*10)/10, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " %"
}

func rate(perSecond float64) string {
	switch {
	case perSecond >= 1 || perSecond == 0:
		return units.Rate(perSecond) + "/s"
	case perSecond*60 >= 1:
		return units.Rate(perSecond*60) + "/min"
	}
	return units.Rate(perSecond*3600) + "/h"
}

func money(amount float64) string {
	if amount != 0 && amount < 0.1 {
		digits := min(1-int(math.Floor(math.Log10(math.Abs(amount)))), 12) // two significant digits
		return strconv.FormatFloat(amount, 'f', digits, 64)
	}
	return strconv.FormatFloat(amount, 'f', 2, 64)
}

// formatSeconds formats a duration in seconds, or returns a dash if it is unknown.
func formatSeconds(s float64) string {
	switch {
	case s < 0:
		return "–"
	case s < 1e-6:
		return "0 s"
	case s < 0.001:
		return significant(s*1e6) + " µs"
	case s < 1:
		return significant(s*1e3) + " ms"
	case s < 60:
		return significant(s) + " s"
	case s > maxSeconds:
		return significant(s/(365.25*86400)) + " years"
	}
	return units.Duration(time.Duration(s * float64(time.Second)))
}

// widthText formats the width of a bucket, such as 20 ms or 1 hour.
func widthText(s float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}} {
		if s >= unit.size {
			return units.Count(int64(math.Round(s/unit.size)), unit.name)
		}
	}
	return trimmed(s*1e3) + " ms"
}

func formatBytes(n float64) string {
	switch {
	case n < 0:
		return "–"
	case n < 1<<10:
		return strconv.FormatFloat(n, 'f', 0, 64) + " B"
	case n < 1<<20:
		return significant(n/(1<<10)) + " KiB"
	case n < 1<<30:
		return significant(n/(1<<20)) + " MiB"
	}
	return significant(n/(1<<30)) + " GiB"
}

// significant formats a number with three significant digits, without an exponent.
func significant(v float64) string {
	switch {
	case v >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func formatTime(t *time.Time) string {
	if t == nil {
		return "–"
	}
	return t.Format(timeFormat)
}
