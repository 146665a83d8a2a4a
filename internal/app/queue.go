package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/units"
)

// QueueOptions are the options of the commands of "ctworker queue" in addition to the settings.
type QueueOptions struct {
	// Tasks and Events select the queues.
	Tasks, Events bool
	// Yes deletes without asking for confirmation.
	Yes bool
	// JSON prints the status as JSON, one line per queue.
	JSON bool
}

// queues returns the selected queues.
func (t *Tool) queues(opts QueueOptions) (all []named) {
	if opts.Tasks {
		all = append(all, named{t.provider.Tasks(), "tasks"})
	}
	if opts.Events {
		all = append(all, named{t.provider.Events(), "events"})
	}
	return all
}

type named struct {
	cloudqueue.Queue
	what string // "tasks" or "events"
}

// Status prints the status of the queues, and returns the exit code: 1 if a queue does not
// exist or has a problem that prevents its use.
func (t *Tool) Status(opts QueueOptions) int {
	return t.each(opts, func(all []named) int {
		code := ExitOK
		table := tabwriter.NewWriter(t.Stdout, 0, 0, 2, ' ', 0)
		if !opts.JSON {
			_, _ = fmt.Fprintln(table, "QUEUE\tTYPE\tVISIBLE\tIN FLIGHT\tDELAYED\tRETENTION\t")
		}
		var below strings.Builder
		uncounted := false
		for _, q := range all {
			s, err := q.Status(t.ctx)
			missing := errors.Is(err, cloudqueue.ErrNotFound)
			switch {
			case missing || s.Problem != "":
				code = ExitFatal
			case err != nil:
				return t.fail(err)
			}
			switch {
			case opts.JSON:
				t.printJSON(q, s, !missing)
			case missing:
				_, _ = fmt.Fprintf(table, "%s\t%s\tnot there\t\t\t\t\n", q.Name(), q.what)
			case s.CountsUnavailable:
				_, _ = fmt.Fprintf(table, "%s\t%s\t?\t?\t?\t%s\t\n", q.Name(), q.what, formatRetention(s.Retention))
				uncounted = true
			default:
				_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%s\t\n", q.Name(), q.what, s.Visible, s.InFlight, s.Delayed, formatRetention(s.Retention))
			}
			if s.DeadLetterQueue != "" {
				_, _ = fmt.Fprintf(&below, "%s: messages received %d times go to the queue %s\n", q.Name(), s.MaxReceives, printable(s.DeadLetterQueue))
			}
			if s.ExactlyOnce {
				_, _ = fmt.Fprintf(&below, "%s delivers each message exactly once\n", q.Name())
			}
			if s.Problem != "" {
				_, _ = fmt.Fprintf(&below, "%s: %s\n", q.Name(), printable(s.Problem))
			}
		}
		if uncounted {
			below.WriteString("Pub/Sub does not report counts; see num_undelivered_messages in Cloud Monitoring, which is a few minutes behind\n")
		}
		_ = table.Flush()
		if !opts.JSON {
			_, _ = io.WriteString(t.Stdout, below.String())
		}
		return code
	})
}

// formatRetention formats a queue's retention for the table; "-" if the provider does not report it.
func formatRetention(d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return units.Duration(d)
}

// printJSON prints a status as JSON.
func (t *Tool) printJSON(q named, s cloudqueue.Status, exists bool) {
	visible, inFlight, delayed := &s.Visible, &s.InFlight, &s.Delayed
	if s.CountsUnavailable {
		visible, inFlight, delayed = nil, nil, nil
	}
	var retention *float64
	if seconds := s.Retention.Seconds(); seconds > 0 {
		retention = &seconds
	}
	b, err := json.Marshal(struct {
		Queue       string   `json:"queue"`
		Type        string   `json:"type"`
		Exists      bool     `json:"exists"`
		Visible     *int64   `json:"visible"` // null if the provider does not report counts; this also applies to InFlight and Delayed
		InFlight    *int64   `json:"in_flight"`
		Delayed     *int64   `json:"delayed"`
		Retention   *float64 `json:"retention_seconds"` // null if the provider does not report it
		ExactlyOnce bool     `json:"exactly_once"`
		DeadLetter  string   `json:"dead_letter_queue,omitempty"`
		MaxReceives int      `json:"max_receives,omitempty"`
		Problem     string   `json:"problem,omitempty"` // what prevents the use of the queue
	}{q.Name(), q.what, exists, visible, inFlight, delayed, retention, s.ExactlyOnce, s.DeadLetterQueue, s.MaxReceives, s.Problem})
	if err != nil {
		panic("app: encode the status of a queue: " + err.Error())
	}
	_, _ = fmt.Fprintf(t.Stdout, "%s\n", b)
}

// Create creates the queues, and returns the exit code.
func (t *Tool) Create(opts QueueOptions) int {
	return t.each(opts, func(all []named) int {
		for _, q := range all {
			created, err := q.Create(t.ctx)
			if err != nil {
				return t.fail(err)
			}
			text := "%s is there already\n"
			if created {
				text = "created %s\n"
			}
			_, _ = fmt.Fprintf(t.Stdout, text, q.Name())
		}
		return ExitOK
	})
}

// Purge deletes the messages of the queues, and returns the exit code.
func (t *Tool) Purge(opts QueueOptions) int {
	return t.destroy(opts, "delete everything in", "deleted everything in", cloudqueue.Queue.Purge)
}

// Delete deletes the queues, and returns the exit code.
func (t *Tool) Delete(opts QueueOptions) int {
	return t.destroy(opts, "delete", "deleted", cloudqueue.Queue.Delete)
}

// destroy calls do for the queues that exist, after confirmation.
func (t *Tool) destroy(opts QueueOptions, what, done string, do func(cloudqueue.Queue, context.Context) error) int {
	return t.each(opts, func(all []named) int {
		var there []named
		for _, q := range all {
			s, err := q.Status(t.ctx)
			if s.Problem != "" {
				t.print("%s: %s\n", q.Name(), printable(s.Problem))
			}
			switch {
			case errors.Is(err, cloudqueue.ErrNotFound):
				_, _ = fmt.Fprintf(t.Stdout, "%s is not there\n", q.Name())
				continue
			case err != nil:
				return t.fail(err)
			}
			if s.CountsUnavailable {
				t.print("%s may contain %s; Pub/Sub does not report how many\n", q.Name(), q.what)
				there = append(there, q)
				continue
			}
			t.print("%s has about %d %s waiting, %d in flight and %d delayed\n", q.Name(), s.Visible, q.what, s.InFlight, s.Delayed)
			there = append(there, q)
		}
		for _, q := range there {
			if !opts.Yes {
				sure, err := t.ask(fmt.Sprintf("%s the queue %s? [y/N] ", what, q.Name()))
				if err != nil {
					return t.usage(err)
				}
				if !sure {
					t.print("%s was not changed\n", q.Name())
					return ExitFatal
				}
			}
			if err := do(q, t.ctx); err != nil {
				return t.fail(err)
			}
			_, _ = fmt.Fprintf(t.Stdout, "%s %s\n", done, q.Name())
		}
		return ExitOK
	})
}

// ask asks a yes/no question on the terminal.
func (t *Tool) ask(question string) (yes bool, err error) {
	if in, ok := t.Stdin.(*os.File); !ok || !term.IsTerminal(int(in.Fd())) {
		return false, errors.New("standard input is not a terminal: give --yes to confirm")
	}
	t.display.print(question)
	answers := bufio.NewScanner(t.Stdin)
	if !answers.Scan() {
		return false, answers.Err()
	}
	answer := strings.ToLower(strings.TrimSpace(answers.Text()))
	return answer == "y" || answer == "yes", nil
}

func (t *Tool) each(opts QueueOptions, do func([]named) int) int {
	stop, err := t.start()
	if err != nil {
		return t.usage(err)
	}
	defer stop()
	return do(t.queues(opts))
}
