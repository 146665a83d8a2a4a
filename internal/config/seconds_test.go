package config

import (
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]time.Duration{
		"0": 0, "0.0": 0, "0e5": 0, "0e99999": 0, ".0e-9": 0,
		"100": 100 * time.Second, "1e2": 100 * time.Second, "1E+2": 100 * time.Second, "1e02": 100 * time.Second,
		"0.001e5": 100 * time.Second, "10000e-2": 100 * time.Second, ".1e3": 100 * time.Second, "1.e2": 100 * time.Second,
		"0.5": 500 * time.Millisecond, "5e-1": 500 * time.Millisecond, ".5": 500 * time.Millisecond, "5.": 5 * time.Second,
		"1.25e1": 12500 * time.Millisecond, "1e-9": 1, "1.5e-8": 15, "0.000000001": 1, "10e-10": 1,
		"12345.000000001": 12345*time.Second + 1, "9e9": 9_000_000_000 * time.Second,
		"9223372036.854775807": 1<<63 - 1, "9.223372036854775807e9": 1<<63 - 1,
	} {
		got, err := seconds("").parse(raw)
		if err != nil || got != want {
			t.Errorf("%s: %v, error %v; want %v", raw, got, err, want)
		}
		if again, err := seconds("").parse(seconds("").format(got)); err != nil || again != got {
			t.Errorf("%s is printed as %s, which reads back as %v, error %v", raw, seconds("").format(got), again, err)
		}
	}
	for _, raw := range []string{"9223372036.854775808", "1e10", "92233720369", "1e400", "0.9e-9", "1e-400", "", ".", "e", ".e1", "1e", "1e1e1", "1_0", "0x10", "+1", "1 ", "1e 1", "inf"} {
		if got, err := seconds("").parse(raw); err == nil {
			t.Errorf("%q: %v, want an error", raw, got)
		}
	}
}
