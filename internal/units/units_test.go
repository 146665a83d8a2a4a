package units_test

import (
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/units"
)

func TestRate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rate float64
		want string
	}{
		{0, "0.00"},
		{1e-9, "0.00"},
		{1.0 / 3600, "0.00028"},
		{1.0 / 120, "0.0083"},
		{0.0949, "0.095"},
		{0.096, "0.10"},
		{0.5, "0.50"},
		{9.994, "9.99"},
		{9.996, "10.0"},
		{12.34, "12.3"},
		{99.96, "100"},
		{123456.7, "123457"},
	} {
		if got := units.Rate(tc.rate); got != tc.want {
			t.Errorf("Rate(%v) is %q, want %q", tc.rate, got, tc.want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0.0s"},
		{2500 * time.Millisecond, "2.5s"},
		{9940 * time.Millisecond, "9.9s"},
		{9960 * time.Millisecond, "10s"},
		{59400 * time.Millisecond, "59s"},
		{59600 * time.Millisecond, "1m00s"},
		{3*time.Minute + 20*time.Second, "3m20s"},
		{59*time.Minute + 59600*time.Millisecond, "1h00m"},
		{4*time.Hour + 5*time.Minute, "4h05m"},
		{47*time.Hour + 59*time.Minute, "47h59m"},
		{48 * time.Hour, "2d0h"},
		{74 * time.Hour, "3d2h"},
	} {
		if got := units.Duration(tc.d); got != tc.want {
			t.Errorf("Duration(%v) is %q, want %q", tc.d, got, tc.want)
		}
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 999: "999ns", 1234: "1.23µs", 12345 * time.Microsecond: "12.3ms", 2345 * time.Millisecond: "2.35s", 90 * time.Minute: "1h30m0s",
	} {
		if got := units.Latency(d); got != want {
			t.Errorf("Latency(%d) is %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 64 << 20: "64 MiB", 3 << 29: "1.5 GiB", 1 << 40: "1024.0 GiB",
	} {
		if got := units.Size(n); got != want {
			t.Errorf("Size(%d) is %q, want %q", n, got, want)
		}
	}
}
