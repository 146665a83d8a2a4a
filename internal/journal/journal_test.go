package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/pipeline"
)

// line returns the event of a task as a line of the event log.
func line(id string, kind pipeline.OutcomeKind, retry bool, attempt int) string {
	d := pipeline.Decision{
		Delivery: pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte("1")}, nil, attempt),
		Outcome:  pipeline.Outcome{Kind: kind, Elapsed: time.Second, Result: []byte(`{"a}": ["}\"", {"b": 1}]}`), Exception: "x\n\"}", ExitCode: 3},
	}
	if retry {
		d.Verdict = pipeline.Retry
	}
	e, _ := pipeline.NewTaskEvent(d, "host", time.Unix(1, 0))
	return string(e.AppendJSON(nil))
}

func read(t *testing.T, rerun journal.Kinds, lines ...string) (*journal.Journal, journal.Damage) {
	t.Helper()
	j := journal.New(rerun)
	damage, err := j.Read(t.Context(), strings.NewReader(strings.Join(lines, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return j, damage
}

func kinds(t *testing.T, text string) journal.Kinds {
	t.Helper()
	k, err := journal.ParseKinds(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// next returns what happens with each occurrence of an ID: "skip", or the number of the attempt, with a
// star if the task is run again although it was done.
func next(j *journal.Journal, id string, occurrences int) (all []string) {
	for range occurrences {
		switch d := j.Next(id); {
		case d.Skip:
			all = append(all, "skip")
		case d.Rerun:
			all = append(all, fmt.Sprint(d.Attempt, "*"))
		default:
			all = append(all, fmt.Sprint(d.Attempt))
		}
	}
	return all
}

func TestJournal_Next(t *testing.T) {
	t.Parallel()
	const rerunDone = `,"rerun":true`
	replaced := strings.Replace(line("a", pipeline.Exited, false, 2), `,"retry":false`, `,"retry":false`+rerunDone, 1)
	for name, tc := range map[string]struct {
		log   []string
		rerun string
		want  []string // for two occurrences of the task "a" in the task file
	}{
		"no event":                 {nil, "", []string{"1", "1"}},
		"of another task":          {[]string{line("b", pipeline.Completed, false, 1)}, "", []string{"1", "1"}},
		"completed":                {[]string{line("a", pipeline.Completed, false, 1)}, "", []string{"skip", "2"}},
		"twice in the file":        {[]string{line("a", pipeline.Completed, false, 1), line("a", pipeline.Completed, false, 1)}, "", []string{"skip", "skip"}},
		"failed":                   {[]string{line("a", pipeline.Exited, false, 1)}, "", []string{"skip", "2"}},
		"failed, rerun failed":     {[]string{line("a", pipeline.Exited, false, 1)}, "failed", []string{"2*", "2"}},
		"failed, rerun other":      {[]string{line("a", pipeline.Exited, false, 1)}, "timed_out,exception", []string{"skip", "2"}},
		"timed out, rerun":         {[]string{line("a", pipeline.TimedOut, false, 4)}, "timed_out", []string{"5*", "5"}},
		"completed, rerun failed":  {[]string{line("a", pipeline.Completed, false, 1)}, "failed", []string{"skip", "2"}},
		"retry pending":            {[]string{line("a", pipeline.Completed, true, 1)}, "", []string{"2", "2"}},
		"retry, then done":         {[]string{line("a", pipeline.Exited, true, 1), line("a", pipeline.Completed, false, 2)}, "", []string{"skip", "2"}},
		"done, and retry pending":  {[]string{line("a", pipeline.Completed, false, 1), line("a", pipeline.Exception, true, 1)}, "", []string{"2", "skip"}},
		"failed and rerun":         {[]string{line("a", pipeline.Exited, false, 1), replaced}, "", []string{"skip", "3"}},
		"failed, rerun, completed": {[]string{line("a", pipeline.Exited, false, 1), strings.Replace(line("a", pipeline.Completed, false, 2), `,"retry":false`, `,"retry":false`+rerunDone, 1)}, "failed", []string{"skip", "3"}},
		"rerun, retry pending":     {[]string{line("a", pipeline.Exited, false, 1), strings.Replace(line("a", pipeline.Exited, true, 2), `,"retry":true`, `,"retry":true`+rerunDone, 1)}, "", []string{"3*", "3"}},
		"two failed, rerun failed": {slices.Repeat([]string{line("a", pipeline.Exited, false, 1)}, 2), "failed", []string{"2*", "2*"}},
		"failed, then completed":   {[]string{line("a", pipeline.Exited, false, 1), line("a", pipeline.Completed, false, 1)}, "failed", []string{"skip", "2*"}},
		"completed, then failed":   {[]string{line("a", pipeline.Completed, false, 1), line("a", pipeline.TimedOut, false, 1)}, "failed", []string{"2*", "skip"}},
		"two failed, one rerun":    {[]string{line("a", pipeline.Exited, false, 1), line("a", pipeline.Exited, false, 1), replaced}, "failed", []string{"3*", "3*"}},
		"one of two completed by a rerun": {[]string{line("a", pipeline.Exited, false, 1), line("a", pipeline.TimedOut, false, 1),
			strings.Replace(line("a", pipeline.Completed, false, 2), `,"retry":false`, `,"retry":false`+rerunDone, 1)}, "failed", []string{"skip", "3*"}},
		"rerun with a retry": {[]string{line("a", pipeline.Exited, false, 1), line("a", pipeline.Exited, false, 1),
			strings.Replace(line("a", pipeline.Exited, true, 2), `,"retry":true`, `,"retry":true`+rerunDone, 1),
			strings.Replace(line("a", pipeline.Completed, false, 3), `,"retry":false`, `,"retry":false`+rerunDone, 1)}, "", []string{"skip", "skip"}},
		"many occurrences": {slices.Repeat([]string{line("a", pipeline.Completed, false, 1)}, 3), "", []string{"skip", "skip"}},
	} {
		var rerun journal.Kinds
		if tc.rerun != "" {
			rerun = kinds(t, tc.rerun)
		}
		j, damage := read(t, rerun, tc.log...)
		if got := next(j, "a", 2); !slices.Equal(got, tc.want) || damage.Count > 0 || damage.Torn {
			t.Errorf("%s: %q, want %q; damage %+v", name, got, tc.want, damage)
		}
	}
}

func TestJournal_Counts(t *testing.T) {
	t.Parallel()
	log := []string{
		line("a", pipeline.Completed, false, 1), line("b", pipeline.Exited, false, 1), line("c", pipeline.TimedOut, false, 1),
		line("d", pipeline.Exception, true, 1), line("a", pipeline.Completed, false, 1),
		`{"timestamp":"2025","hostname":"h","event_type":"keep_alive"}`,
	}
	j, _ := read(t, 0, log...)
	if got, want := j.Counts(), (journal.Counts{Done: 4, Failed: 2, Unfinished: 1}); got != want || j.Tasks() != 4 {
		t.Errorf("%+v of %d tasks, want %+v", got, j.Tasks(), want)
	}
	j, _ = read(t, kinds(t, "exited"), log...)
	if got, want := j.Counts(), (journal.Counts{Done: 3, Failed: 1, Rerun: 1, Unfinished: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParseKinds_Invalid(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "fail", "failed,", "completed", "exited;timed_out"} {
		if _, err := journal.ParseKinds(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// Parse returns the right data of every event, whether or not the fast parser can parse the event.
func TestParse_Events(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9-]{1,9}`)).Draw(t, "id")
		if id == "" {
			id = "x"
		}
		kind := rapid.SampledFrom([]pipeline.OutcomeKind{pipeline.Completed, pipeline.Exception, pipeline.TimedOut, pipeline.Exited}).Draw(t, "kind")
		retry, attempt := rapid.Bool().Draw(t, "retry"), rapid.IntRange(1, 100).Draw(t, "attempt")
		text := line(id, kind, retry, attempt)
		e, ok, err := journal.Parse([]byte(text))
		want := map[pipeline.OutcomeKind]journal.Kind{
			pipeline.Completed: journal.Completed, pipeline.Exception: journal.Exception, pipeline.TimedOut: journal.TimedOut, pipeline.Exited: journal.Exited,
		}[kind]
		if err != nil || !ok || e.Kind != want || e.Retry != retry || string(e.TaskID) != strings.ToValidUTF8(id, "\ufffd") || e.Attempt != attempt && (e.Attempt != 0 || kind != pipeline.Completed || retry) {
			t.Fatalf("%s: %+v, %v, error %v", text, e, ok, err)
		}
	})
}

// A log that is cut off at any byte has one done task per complete line, with or without a line break. An
// incomplete line is reported, even if a line break was added to it later.
func TestRead_CutOff(t *testing.T) {
	t.Parallel()
	whole := line("a", pipeline.Completed, false, 1) + "\n" + line("b", pipeline.Exited, false, 1) + "\n" + line("c", pipeline.Completed, false, 1) + "\n"
	for end := range len(whole) + 1 {
		for _, after := range []string{"", "\n", "\n" + line("d", pipeline.Completed, false, 1) + "\n"} {
			cut := whole[:end]
			j := journal.New(0)
			damage, err := j.Read(t.Context(), strings.NewReader(cut+after))
			if err != nil {
				t.Fatal(err)
			}
			want := int64(strings.Count(cut, "\n"))
			last := cut[strings.LastIndexByte(cut, '\n')+1:]
			isTorn := last != "" && !slices.Contains(strings.Split(whole, "\n"), last)
			if last != "" && !isTorn && (after == "" || strings.HasPrefix(after, "\n")) { // only the line break was missing
				want++
			}
			if len(after) > 1 {
				want++
			}
			got := j.Counts().Done
			if got != want || damage.Torn != (isTorn && after == "") {
				t.Fatalf("cut at %d, then %q: %d done, want %d; damage %+v", end, after, got, want, damage)
			}
			if isDamaged := isTorn && after != "" && want == int64(strings.Count(cut+after, "\n"))-1; isDamaged != (damage.Count == 1) {
				t.Fatalf("cut at %d, then %q: damage %+v", end, after, damage)
			}
		}
	}
}

// Damaged lines are reported with their numbers, and the other lines count.
func TestRead_Damaged(t *testing.T) {
	t.Parallel()
	ok := line("a", pipeline.Completed, false, 1)
	_, damage := read(t, 0, ok, "garbage", "", ok, ok[:40]+ok, "[1]", "\x00\x00", `{"event_type":"task_completed","task_id":5}`)
	if damage.Count != 4 || !slices.Equal(damage.Lines, []int64{2, 5, 6, 7}) {
		t.Errorf("%+v", damage)
	}
	_, damage = read(t, 0, slices.Repeat([]string{"x"}, 100)...)
	if damage.Count != 100 || len(damage.Lines) != 10 {
		t.Errorf("%+v", damage)
	}
}

// A line that is longer than the buffer of the reader is an event like any other.
func TestRead_LongLine(t *testing.T) {
	t.Parallel()
	long := strings.Replace(line("a", pipeline.Completed, false, 1), `["}\""`, `["`+strings.Repeat("x", 5<<20)+`"`, 1)
	j, damage := read(t, 0, long, line("b", pipeline.Completed, false, 1))
	if c := j.Counts(); c.Done != 2 || damage.Count > 0 {
		t.Errorf("%+v, damage %+v", c, damage)
	}
}

func TestReadFile_Errors(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.log")
	if _, err := journal.New(0).ReadFile(t.Context(), missing, true); err != nil {
		t.Error(err)
	}
	if _, err := journal.New(0).ReadFile(t.Context(), missing, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := journal.New(0).ReadFile(t.Context(), t.TempDir(), false); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := journal.New(0).Read(ctx, bytes.NewReader(bytes.Repeat([]byte("{}\n"), 1<<15))); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the end of the context", err)
	}
}

// A Journal of many tasks finds each of these tasks, and no other task.
func TestJournal_ManyTasks(t *testing.T) {
	t.Parallel()
	const n = 300_000
	j := journal.New(0)
	for i := range n {
		j.Add(journal.Event{TaskID: fmt.Append(nil, "task-", i), Kind: journal.Completed})
	}
	if j.Tasks() != n || j.Counts().Done != n {
		t.Fatalf("%d tasks, %+v", j.Tasks(), j.Counts())
	}
	for i := range n {
		if !j.Next(fmt.Sprint("task-", i)).Skip {
			t.Fatalf("task %d is not done", i)
		}
		if j.Has(fmt.Sprint("other-", i)) {
			t.Fatalf("the task other-%d was found", i)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	log := []byte(strings.Repeat(line("task-00000001", pipeline.Completed, false, 1)+"\n", 1000))
	b.SetBytes(int64(len(log)))
	for b.Loop() {
		if _, err := journal.New(0).Read(b.Context(), bytes.NewReader(log)); err != nil {
			b.Fatal(err)
		}
	}
}
