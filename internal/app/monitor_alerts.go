package app

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/fleet"
)

// alerts logs what needs attention, each thing once.
type alerts struct {
	log     zerolog.Logger
	known   map[string]bool // the silent workers that have been logged, by host and run ID
	notices int64
	// stalled and unknown report whether the warning has been logged.
	stalled, unknown bool
}

// check logs what is new in v. began is when the monitor started. needsTotal reports whether the monitor waits
// for the end of the job.
func (a *alerts) check(v *fleet.Snapshot, began time.Time, needsTotal bool) {
	a.checkWorkers(v)
	if n := v.NoticeCount - a.notices; n > 0 {
		for _, notice := range v.Notices[max(int64(len(v.Notices))-n, 0):] {
			a.log.Warn().Str("host", notice.Host).Str("instance", notice.Instance).Str("action", notice.Action).Msg("a worker has received a termination notice")
		}
		a.notices = v.NoticeCount
	}
	if needsTotal && v.Total < 0 && !a.unknown && v.At.Sub(began) >= unknownTotalTime {
		a.unknown = true
		a.log.Warn().Msg("the number of tasks is unknown, so --until-complete does not end; give --total N or --task-file FILE")
	}
	a.checkStalled(v, began)
}

// checkWorkers logs the workers that have become silent, and those that have returned.
func (a *alerts) checkWorkers(v *fleet.Snapshot) {
	silent := map[string]bool{}
	for i := range v.Workers {
		w := &v.Workers[i]
		if w.Condition != fleet.Silent {
			continue
		}
		key := w.Name() + "\n" + w.RunID
		silent[key] = true
		if !a.known[key] {
			a.log.Warn().Str("host", w.Host).Str("instance", w.Instance).Str("run_id", w.RunID).Time("last_seen", w.LastSeen).
				Msg("worker is silent: no keep_alive event for three intervals; if it is dead, other workers receive its tasks when their leases end")
		}
	}
	for key := range a.known {
		if !silent[key] {
			name, _, _ := strings.Cut(key, "\n")
			a.log.Info().Str("worker", name).Msg("worker is no longer silent")
		}
	}
	a.known = silent
}

// checkStalled logs that tasks remain, but no worker runs.
func (a *alerts) checkStalled(v *fleet.Snapshot, began time.Time) {
	last := v.LastChange
	if last.Before(began) {
		last = began
	}
	isStalled := v.WorkerCount > 0 && v.Total > v.Done() && v.Count(fleet.Running)+v.Count(fleet.Draining) == 0 && v.At.Sub(last) >= stalledTime
	if isStalled && !a.stalled {
		a.log.Warn().Int64("remaining", v.Total-v.Done()).
			Msg("no worker is running, but tasks have no final event; start a worker, or look for the tasks with \"ctworker queue status\"")
	}
	a.stalled = isStalled
}

// isTerminal reports whether r is a terminal.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// maxHeldLog is the number of bytes of log lines that are kept while a screen is shown.
const maxHeldLog = 256 << 10

// heldLog keeps log lines while a screen is shown.
type heldLog struct {
	mu      sync.Mutex
	b       bytes.Buffer
	dropped bool
	line    string
}

// Write keeps p, which is one or more lines. If there are too many, it drops old lines.
func (h *heldLog) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text := strings.TrimSpace(ansi.Strip(string(p))); text != "" {
		h.line = text[strings.LastIndexByte(text, '\n')+1:]
	}
	for h.b.Len()+len(p) > maxHeldLog && h.b.Len() > 0 {
		_, _ = h.b.ReadBytes('\n') // fails only without a line break, and has then removed all
		h.dropped = true
	}
	_, _ = h.b.Write(p)
	return len(p), nil
}

// last returns the last line.
func (h *heldLog) last() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.line
}

// holdLog keeps the log lines until releaseLog is called.
func (d *display) holdLog() *heldLog {
	h := &heldLog{}
	d.screen.Swap(func() io.Writer { return h })
	return h
}

// releaseLog writes the lines that were kept.
func (d *display) releaseLog(h *heldLog) {
	d.bounded(func() {
		d.screen.Swap(func() io.Writer {
			if h.dropped {
				_, _ = io.WriteString(d.stderr, "…\n")
			}
			writeAll(d.stderr, h.b.Bytes())
			return d.stderr
		})
	})
}
