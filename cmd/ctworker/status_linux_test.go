package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/status"
)

// --status-address shows the running and the failed tasks while a run lasts, in each kind of run.
func TestStatusAddress(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"task": {"--", "sh", "-c", `[ $1 = bad ] && { echo broken >&2; exit 3; }; echo x > ready-$1; while [ ! -e end ]; do sleep 0.05; done`, "x", "{data.value}", ":::", "bad", "long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in := prepare(t, dir, append([]string{"run", "--status-address", "0"}, args...)...).start()
			await(t, func() bool { _, err := os.Stat(filepath.Join(dir, "ready-long")); return err == nil })
			url := regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+/`).FindString(in.stderr.String())
			fetch := func(path string) (int, string) {
				response, err := http.Get(url + path) //nolint:noctx // a test server
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = response.Body.Close() }()
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				return response.StatusCode, string(body)
			}
			var s status.Snapshot
			await(t, func() bool {
				_, body := fetch("api/v1/status")
				if err := json.Unmarshal([]byte(body), &s); err != nil {
					t.Fatal(err)
				}
				return s.Tasks.Done == 1
			})
			if s.Phase != status.PhaseRunning || len(s.Running) != 1 || s.Running[0].TaskID != "long" || s.Running[0].MemoryBytes == nil || s.Running[0].Pid <= 0 {
				t.Errorf("%+v", s)
			}
			if len(s.Failures) != 1 || s.Failures[0].TaskID != "bad" || s.Failures[0].Reason != "exit code 3: broken" || *s.Tasks.Total != 2 {
				t.Errorf("%+v", s)
			}
			if code, body := fetch("metrics"); code != 200 || !strings.Contains(body, `ctworker_task_attempts_total{outcome="exited"} 1`) {
				t.Errorf("%d %s", code, body)
			}
			for _, path := range []string{"healthz", "readyz"} {
				if code, body := fetch(path); code != 200 {
					t.Errorf("%s: %d %s", path, code, body)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			in.want(app.ExitOK)
			if _, err := http.Get(url); err == nil { //nolint:noctx,bodyclose // there is no response
				t.Error("the server still answers")
			}
		})
	}
}

func TestStatusAddress_Invalid(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"x": `--status-address "x": `, "127.0.0.1": `--status-address`, ":99999": `"99999" is not a port`,
	} {
		in := prepare(t, t.TempDir(), "run", "--status-address", address, "--", "true", ":::", "a").start()
		in.want(app.ExitUsage)
		if !strings.Contains(in.stderr.String(), want) {
			t.Errorf("%s: %s", address, in.stderr.String())
		}
	}
}

// await waits until condition returns true.
func await(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !condition(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the condition was not met in time")
		}
	}
}
