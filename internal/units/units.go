// Package units formats sizes, durations, rates and texts for humans. Do not use it for machine-readable
// output, which contains plain numbers of bytes, seconds, and tasks per second.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// Size formats a number of bytes with a binary unit, such as "512 bytes", "24 MiB" or "1.5 GiB".
func Size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}

// Duration formats the duration of a run, such as "2.5s", "3m20s", "4h05m" or "3d2h".
func Duration(d time.Duration) string {
	seconds := int64(d.Round(time.Second).Seconds())
	switch {
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 60*60:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < 48*60*60:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds/60%60)
	default:
		return fmt.Sprintf("%dd%dh", seconds/86400, seconds/3600%24)
	}
}

// Latency formats a duration with three significant digits, such as "1.23ms" or "4.56s". Use it for
// durations of any magnitude.
func Latency(d time.Duration) string {
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}

// Rate formats a number of tasks per second with about three significant digits. The result is a
// valid JSON number.
func Rate(r float64) string {
	switch {
	case r >= 99.95:
		return strconv.FormatFloat(r, 'f', 0, 64)
	case r >= 9.995:
		return strconv.FormatFloat(r, 'f', 1, 64)
	case r >= 0.095 || r < 0.000001:
		return strconv.FormatFloat(r, 'f', 2, 64)
	default: // two significant digits; for example, one task per hour is 0.00028
		return strconv.FormatFloat(r, 'f', 1-int(math.Floor(math.Log10(r))), 64)
	}
}

// OneLine returns text with line breaks and tabs escaped, so that it occupies one line and one field.
func OneLine(text string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(text)
}

// maxShownID is the length to which ShortID cuts an ID, in bytes.
const maxShownID = 100

// ShortID returns a task ID in one line, cut off if it is long.
func ShortID(id string) string {
	if len(id) > maxShownID {
		id = utf8cut.Start(id, maxShownID) + "…"
	}
	return OneLine(id)
}

// Count formats a number of things, such as "1 task" or "2 tasks". The plural of noun must end with s.
func Count(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
