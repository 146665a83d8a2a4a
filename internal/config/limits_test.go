package config_test

import (
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

// Invalid values of the settings that limit and retry failures get an error that shows a valid value.
func TestFailureSettings_Invalid(t *testing.T) {
	t.Parallel()
	for flag, values := range map[string][]string{
		"--max-failures":             {"0", "-1", "0%", "101%", "NaN%", "%", "x", "1.5"},
		"--retry-on-exit-codes":      {"0", "256", "5-2", "-9", "1,,2", "a", "1-"},
		"--no-retry-on-exit-codes":   {"0-5", "1 2"},
		"--retries":                  {"-1", "x", "1.5"},
		"--max-consecutive-failures": {"-1"},
	} {
		for _, value := range values {
			_, err := given{args: []string{"--task-file=t", flag + "=" + value}}.load(t)
			if err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), "give ") {
				t.Errorf("%s %q: error %v", flag, value, err)
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	c := config.ExitCodes{}.With(255, 255).With(3, 5).With(5, 7).With(1, 1)
	if got := c.String(); got != "1,3-7,255" {
		t.Errorf("got %s", got)
	}
	for code, want := range map[int]bool{-9: false, 0: false, 1: true, 2: false, 3: true, 7: true, 8: false, 255: true, 256: false, 1000: false} {
		if c.Contain(code) != want {
			t.Errorf("Contain(%d) is %v", code, !want)
		}
	}
}

// --retries retries every failure, unless another setting selects failures.
func TestRetries_SelectFailures(t *testing.T) {
	t.Parallel()
	for args, want := range map[string][3]bool{
		"":                                    {},
		"--retries=2":                         {true, true, true},
		"--retries=2 --retry-on-exit":         {true, false, false},
		"--retries=2 --no-retry-on-exit":      {},
		"--retries=2 --retry-on-exit-codes=3": {},
	} {
		cfg := given{args: append(strings.Fields(args), "--task-file=t")}.must(t)
		if got := [3]bool{cfg.RetryOnExit, cfg.RetryOnException, cfg.RetryOnTimeout}; got != want {
			t.Errorf("%s: got %v, want %v", args, got, want)
		}
	}
	if _, err := (given{args: []string{"--provider=AWS", "--job-id=j", "--retries=2"}}).load(t); err == nil || !strings.Contains(err.Error(), "--max-attempts") {
		t.Errorf("with a queue: error %v", err)
	}
}
