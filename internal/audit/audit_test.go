package audit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/journal"
)

// All tasks with missing, repeated, contradictory or unknown events are found, even if the records do not
// fit into memory.
func TestRun_FindsEachProblem(t *testing.T) {
	const n = 200_000 // with the events, more records than fit into one chunk
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	want := map[Problem]map[string]bool{Missing: {}, Repeated: {}, Contradictory: {}, Unknown: {}}
	dir := t.TempDir()
	path := filepath.Join(dir, "events.log")
	var log strings.Builder
	line := func(id, kind string) {
		fmt.Fprintf(&log, `{"timestamp":"2026-11-27T00:00:00.000000","hostname":"h","event_type":"task_%s","task_id":"%s","elapsed_time":1,"retry":false,"result":1,"attempt":1}`+"\n", kind, id)
	}
	for i := range n {
		id := fmt.Sprint("task-", i)
		switch r := random.IntN(2000); {
		case r == 0:
			want[Missing][id] = true
			continue
		case r == 1:
			want[Repeated][id] = true
			line(id, "completed")
		case r == 2:
			want[Contradictory][id] = true
			line(id, "exited")
		case r == 3:
			want[Unknown]["other-"+id] = true
			line("other-"+id, "completed")
		}
		line(id, "completed")
	}
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{Logs: []string{path}, Dir: dir, Tasks: func(yield func(string) error) error {
		for _, i := range random.Perm(n) {
			if err := yield(fmt.Sprint("task-", i)); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[Problem]map[string]bool{Missing: {}, Repeated: {}, Contradictory: {}, Unknown: {}}
	for _, f := range r.Findings {
		got[f.Problem][f.TaskID] = true
	}
	for _, p := range Problems {
		if !maps.Equal(got[p], want[p]) || r.Counts[p] != int64(len(want[p])) {
			t.Errorf("%s: found %d, counted %d, want %d", p, len(got[p]), r.Counts[p], len(want[p]))
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files left: %v, error %v", files, err)
	}
}

// The number of final events must equal the number of entries. The event of a rerun replaces an event.
func TestRun_CountsEvents(t *testing.T) {
	t.Parallel()
	event := func(id, fields string) string {
		return fmt.Sprintf(`{"event_type":"task_%s","task_id":"%s"}`, fields, id) + "\n"
	}
	const done, failed, retry, rerun = `completed","retry":false,"x":"`, `exited","retry":false,"x":"`, `exited","retry":true,"x":"`, `completed","retry":false,"rerun":true,"x":"`
	for name, tc := range map[string]struct {
		entries int
		events  []string
		want    Problem
		kind    journal.Kind
	}{
		"done":                       {1, []string{done}, "", journal.Completed},
		"retried":                    {1, []string{retry, retry, done}, "", journal.Completed},
		"only a retry":               {1, []string{retry}, Missing, 0},
		"rerun":                      {1, []string{failed, rerun}, "", journal.Completed},
		"rerun without the first":    {1, []string{rerun}, "", journal.Completed},
		"rerun twice":                {1, []string{failed, rerun, rerun}, "", journal.Completed},
		"no event":                   {1, nil, Missing, 0},
		"two events":                 {1, []string{done, done}, Repeated, journal.Completed},
		"two outcomes":               {1, []string{done, failed}, Contradictory, 0},
		"two entries":                {2, []string{done, done}, "", journal.Completed},
		"two entries, one event":     {2, []string{done}, Missing, 0},
		"two entries, three events":  {2, []string{done, done, done}, Repeated, 0},
		"two entries and a rerun":    {2, []string{failed, done, rerun}, "", journal.Completed},
		"no entry":                   {0, []string{done}, Unknown, 0},
		"neither entries nor finals": {0, []string{retry}, "", 0},
	} {
		var log string
		for _, fields := range tc.events {
			log += event("a", fields)
		}
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Run(t.Context(), Options{Logs: []string{path}, Tasks: func(yield func(string) error) error {
			for range tc.entries {
				if err := yield("a"); err != nil {
					return err
				}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Collect(maps.Keys(r.Counts))
		if tc.want == "" && len(got) > 0 || tc.want != "" && !slices.Equal(got, []Problem{tc.want}) {
			t.Errorf("%s: found %v, want %q", name, got, tc.want)
		}
		if tc.kind != 0 && r.Kinds[tc.kind] == 0 {
			t.Errorf("%s: outcomes %v, want %v", name, r.Kinds, tc.kind)
		}
	}
}
