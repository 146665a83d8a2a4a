package retry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/retry"
)

// line contains the fields of a log line that the tests check.
type line struct {
	Level, Message, Provider, Action, Error string
	Failures                                int
}

// buffer is a log that can be read while it is being written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func lines(t *testing.T, b *buffer) (all []line) {
	t.Helper()
	for text := range strings.Lines(b.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// An outage of an hour takes only a few log lines, although thousands of requests fail.
func TestReporter_LogsAnOutageInFewLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		r := retry.NewReporter(zerolog.New(&b).Level(zerolog.InfoLevel), "SQS")
		began := time.Now()
		done := make(chan error)
		const requests = 20
		for i := range requests {
			go func() {
				opts := retry.Transients(passing)
				opts.Reporter, opts.Action = r, fmt.Sprint("Action", i%3)
				done <- retry.Do(t.Context(), opts, func() error {
					if time.Since(began) < time.Hour {
						return fmt.Errorf("dial from port %d: %w", i, errPassing)
					}
					return nil
				})
			}()
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if len(lines(t, &b)) != 1 {
			t.Errorf("after 2 s: %s", b.String())
		}
		for range requests {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		all := lines(t, &b)
		if n := len(all); n < 4 || n > 10 {
			t.Errorf("%d lines:\n%s", n, b.String())
		}
		if l := all[0]; l.Level != "warn" || l.Provider != "SQS" || !strings.Contains(l.Error, "no route") || l.Failures < requests {
			t.Errorf("%+v", l)
		}
		if l := all[len(all)-1]; l.Level != "info" || l.Message != "requests to the provider succeed again" || l.Failures < 1000 {
			t.Errorf("%+v", l)
		}
	})
}

// A single short failure is not logged. Many short failures are logged.
func TestReporter_LogsManyShortFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		r := retry.NewReporter(zerolog.New(&b).Level(zerolog.InfoLevel), "SQS")
		fail := func() {
			a := r.Begin("Pull")
			a.Failed(errPassing)
			<-time.After(100 * time.Millisecond)
			a.End(nil)
		}
		fail()
		if b.String() != "" {
			t.Errorf("%s", b.String())
		}
		for range 3000 { // takes five minutes
			fail()
		}
		if n := len(lines(t, &b)); n < 4 || n > 6 {
			t.Errorf("%d lines:\n%s", n, b.String())
		}
	})
}

// If the cause of an outage changes, the Reporter logs a new line soon. If a request ends with a
// permanent error, the Reporter does not log that requests succeed again.
func TestReporter_LogsAChangedCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		r := retry.NewReporter(zerolog.New(&b).Level(zerolog.InfoLevel), "SQS")
		a := r.Begin("Pull")
		for i := range 30 {
			err := fmt.Errorf("action %c: %w", 'a'+i, errPassing) // the cause is always errPassing
			if i >= 15 {
				err = errors.New("503")
			}
			a.Failed(err)
			<-time.After(time.Second + time.Millisecond) // 1 ms more than a second, because the Reporter's timer would fire at the same time
		}
		a.End(errPassing)
		var errs []string
		for _, l := range lines(t, &b) {
			errs = append(errs, l.Error)
		}
		if want := []string{"action a: no route to host", "503"}; !slices.Equal(errs, want) {
			t.Errorf("%q, want %q", errs, want)
		}
	})
}

func TestReporter_NilLogsNothing(t *testing.T) {
	t.Parallel()
	var r *retry.Reporter
	a := r.Begin("Pull")
	a.Failed(errPassing)
	a.End(nil)
}

// If a request gets no response, the Reporter logs that while the request still runs.
func TestReporter_LogsAMissingResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b buffer
		opts := retry.Transients(passing)
		opts.Reporter, opts.SlowAfter, opts.Action = retry.NewReporter(zerolog.New(&b).Level(zerolog.InfoLevel), "SQS"), 3*time.Second, "GetQueueUrl"
		if _, err := retry.AtStart(t.Context(), opts, func() (int, error) { <-time.After(time.Minute); return 1, nil }); err != nil {
			t.Error(err)
		}
		if all := lines(t, &b); len(all) != 2 || !strings.Contains(all[0].Error, "has not responded yet") || all[1].Level != "info" {
			t.Errorf("%s", b.String())
		}
	})
}
