package monitor

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/ctworker/ctworker/internal/fleet"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/units"
)

const (
	unknownWidth, unknownHeight = 80, 24
	// maxWidth limits the length of the lines, because wide tables are hard to read.
	maxWidth = 160
)

// Draw returns the lines of the screen, without a line break at the end. No line is wider than the screen,
// and there are not more lines than the screen has.
func Draw(v *fleet.Snapshot, o View) string {
	if o.Width <= 0 {
		o.Width = unknownWidth
	}
	if o.Height <= 0 {
		o.Height = unknownHeight
	}
	s := screen{v: v, o: o, width: min(o.Width, maxWidth)}
	s.summary()
	s.alerts()
	s.failures()
	if o.Help {
		s.help()
	} else {
		s.workers()
	}
	return s.text()
}

// screen collects the lines of the screen.
type screen struct {
	v     *fleet.Snapshot
	o     View
	width int
	lines []string
}

// add adds a line. A line that is too long is cut off.
func (s *screen) add(line string) {
	s.lines = append(s.lines, ansi.Truncate(line, s.width, "…"))
}

// addf formats a line.
func (s *screen) addf(format string, args ...any) { s.add(fmt.Sprintf(format, args...)) }

// left returns how many lines are free, if the last line of the screen is for the keys.
func (s *screen) left() int { return s.o.Height - 1 - len(s.lines) }

// Styles, as parameters of the escape sequence SGR.
const (
	bold    = "1"
	faint   = "2"
	reverse = "7"
	red     = "31"
	yellow  = "33"
	green   = "32"
)

// style returns text in a style.
func (s *screen) style(sgr, text string) string {
	if !s.o.Color || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// clean returns a text of an event as one line without characters that a terminal would interpret.
func (s *screen) clean(text string) string { return s.o.Printable(units.OneLine(text)) }

// summary draws the progress of the job.
func (s *screen) summary() {
	v := s.v
	right := "monitoring for " + units.Duration(s.o.Elapsed)
	title := "ctworker monitor: " + s.clean(s.o.Job)
	gap := max(s.width-ansi.StringWidth(title)-ansi.StringWidth(right), 2)
	s.add(s.style(bold, title) + strings.Repeat(" ", gap) + right)
	s.add(s.bar())
	s.add(s.progress())
	line := fmt.Sprintf("completed %d", v.Completed)
	if v.Retrying > 0 {
		line += fmt.Sprintf("   to retry %d", v.Retrying)
	}
	failed := fmt.Sprintf("failed %d", v.Failed())
	if v.Failed() > 0 {
		failed = s.style(red, failed) + kinds(v)
	}
	s.add(line + "   " + failed)
	s.add(s.fleetLine())
}

// kinds returns the numbers of failed tasks by outcome, in parentheses.
func kinds(v *fleet.Snapshot) string {
	var parts []string
	for _, k := range []struct {
		kind  journal.Kind
		count int64
	}{{journal.Exception, v.Exception}, {journal.TimedOut, v.TimedOut}, {journal.Exited, v.Exited}} {
		if k.count > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(k.kind.String(), "_", " "), k.count))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// bar returns the progress bar. Without a total, it is a line.
func (s *screen) bar() string {
	const percentWidth = 8
	size := max(s.width-percentWidth-2, 1)
	if s.v.Total < 0 {
		return strings.Repeat("-", s.width)
	}
	share := 1.0
	if s.v.Total > 0 {
		share = min(float64(s.v.Done())/float64(s.v.Total), 1)
	}
	filled := int(share * float64(size))
	percent := int(share*1000) / 10 // rounded down, so that 100 % means all
	tenth := int(share*1000) % 10
	return "[" + s.style(green, strings.Repeat("#", filled)) + strings.Repeat(".", size-filled) + "]" + fmt.Sprintf("%4d.%d %%", percent, tenth)
}

// progress returns the number of tasks, the rate and the remaining time.
func (s *screen) progress() string {
	v := s.v
	text := fmt.Sprintf("%d of %d tasks", v.Done(), v.Total)
	if v.Total < 0 {
		text = units.Count(v.Done(), "task")
	}
	text += "   " + units.Rate(v.Rate) + " tasks/s"
	switch {
	case v.Total < 0 && s.o.Hint != "":
		text += "   total unknown: " + s.o.Hint
	case v.Complete():
		text += "   " + s.style(green, "complete")
	case v.TimeLeft >= 0:
		text += "   about " + units.Duration(v.TimeLeft) + " left"
	}
	return text
}

// fleetLine returns the numbers of workers and slots.
func (s *screen) fleetLine() string {
	v := s.v
	text := fmt.Sprintf("workers: %d running", v.Count(fleet.Running))
	for _, c := range []fleet.Condition{fleet.Draining, fleet.Silent, fleet.Terminated, fleet.Ended} {
		n := v.Count(c)
		if n == 0 {
			continue
		}
		part := fmt.Sprintf("%d %v", n, c)
		if c == fleet.Silent {
			part = s.style(yellow, part)
		}
		text += ", " + part
	}
	slots, running := v.Slots()
	return text + fmt.Sprintf("   slots: %d of %d in use", running, slots)
}

// maxNamed is the number of workers that an alert names.
const maxNamed = 3

// alerts draws what needs attention: silent workers, termination notices and errors of workers.
func (s *screen) alerts() {
	v := s.v
	if silent := v.In(fleet.Silent); len(silent) > 0 {
		var names []string
		for _, w := range silent[:min(len(silent), maxNamed)] {
			names = append(names, s.clean(w.Name())+" for "+s.ago(w.LastSeen))
		}
		s.add(s.style(yellow, "silent: "+strings.Join(names, ", ")+more(len(silent)-maxNamed)))
	}
	if n := len(v.Notices); n > 0 {
		last := v.Notices[n-1]
		w := fleet.Worker{Host: last.Host, Instance: last.Instance}
		s.addf("termination notices: %d, the last one for %s %s ago", v.NoticeCount, s.clean(w.Name()), s.ago(last.At))
	}
	if v.Fatal > 0 {
		s.add(s.style(red, fmt.Sprintf("workers that ended with an error: %d, the last one on %s: %s", v.Fatal, s.clean(v.LastFatal.Host), s.clean(v.LastFatal.Reason))))
	}
	if n := v.NonFatal + v.Malformed; n > 0 {
		s.addf("malformed messages: %d in the task queue, %d in the event queue", v.NonFatal, v.Malformed)
	}
}

// more returns " and n more", or "" if n is not positive.
func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// ago returns the time since t.
func (s *screen) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(s.v.At.Sub(t), 0).Truncate(time.Second)
	if d < 10*time.Second {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return units.Duration(d)
}

// failures draws the most frequent reasons of failures.
func (s *screen) failures() {
	all := s.v.Failures
	if len(all) == 0 || s.left() < 6 {
		return
	}
	shown := min(len(all), max(s.o.Height/6, 2))
	s.add("")
	s.add(s.style(reverse, pad("  FAILED  REASON", s.width)))
	for _, f := range all[:shown] {
		s.addf("%8d  %s", f.Count, s.clean(f.Reason))
	}
	if n := len(all) - shown; n > 0 {
		s.addf("          %s", units.Count(int64(n), "more reason"))
	}
}

// pad fills a line up to a width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-ansi.StringWidth(text), 0))
}

// text returns the screen with the line about the keys at the bottom.
func (s *screen) text() string {
	if n := s.o.Height - 1; len(s.lines) > n {
		s.lines = s.lines[:n]
	}
	for len(s.lines) < s.o.Height-1 {
		s.lines = append(s.lines, "")
	}
	s.add(s.footer())
	return strings.Join(s.lines, "\n")
}

// footer returns the last line.
func (s *screen) footer() string {
	if s.o.Editing {
		return s.style(reverse, "show workers with: "+s.clean(s.o.Filter)+"_") + "  (enter: done, esc: show all)"
	}
	text := s.style(faint, "q quit   s sort   / filter   ? help")
	if s.o.Message != "" {
		text += "   " + s.style(yellow, s.clean(s.o.Message))
	}
	return text
}

// help draws the keys.
func (s *screen) help() {
	s.add("")
	s.add(s.style(reverse, pad("KEYS", s.width)))
	for _, line := range []string{
		"q, ctrl-c     quit; events that were not written remain in the queue",
		"s             sort the workers by condition, name, failures or rate",
		"/             show only the workers with a text, such as a zone or \"silent\"",
		"esc           show all workers",
		"up, down      scroll; also page up, page down, home, end, k and j",
		"?             close this help",
		"",
		"Silent: no keep_alive event for three intervals (--keepalive-interval).",
		"Draining: the worker fetches no more tasks. P50, P99: latency of its tasks.",
		"CPU, MEM: of the machine. SEEN: time since the last keep_alive event.",
	} {
		s.add(line)
	}
}
