package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Bar is a progress bar on a terminal. It owns the terminal's last line from
// StartBar to Stop; what is written to it meanwhile appears above.
type Bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
}

// barInterval is how often the bar is drawn.
const barInterval = 150 * time.Millisecond

// StartBar draws a bar on w, which is a terminal, until Stop. It is as wide as
// the terminal allows, and 80 columns where w is none. status is called by one
// goroutine at a time, and must not write to the Bar.
func StartBar(w io.Writer, status func() Status) *Bar {
	b := &Bar{progress: mpb.New(mpb.WithOutput(w), mpb.WithRefreshRate(barInterval), mpb.WithAutoRefresh())}
	m := newMeter(time.Now)
	draw := mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
		s := status()
		rate, left := m.add(s)
		// The last column stays free: some terminals wrap once it is used.
		_, err := io.WriteString(w, draw(s, rate, left, stat.AvailableWidth-1))
		return err
	})
	b.bar = b.progress.MustAdd(0, draw, mpb.BarFillerTrim())
	return b
}

// Write prints p, which is one or more lines, above the bar.
func (b *Bar) Write(p []byte) (int, error) { return b.progress.Write(p) }

// Stop takes the bar away; what has been written to it stays. Nothing is written
// to the Bar after it. A second Stop does nothing.
func (b *Bar) Stop() {
	b.bar.Abort(true)
	b.progress.Wait()
}

// draw returns the bar's line, in width columns at most. Where they are few, it
// leaves out what matters least.
func draw(s Status, rate float64, left time.Duration, width int) string {
	done := fmt.Sprintf("%d/%s", s.Done, total(s))
	var speed, remaining, failed string
	if rate > 0 {
		speed = "  " + Rate(rate) + "/s"
	}
	if left >= 0 {
		remaining = "  " + Duration(left) + " left"
	}
	if s.Failed > 0 {
		failed = fmt.Sprintf("  %d failed", s.Failed)
	}
	head := fmt.Sprintf("%4s ", percent(s))
	for _, text := range []string{
		done + " tasks" + speed + remaining + failed,
		done + remaining + failed,
		done + failed,
		done,
	} {
		if space := width - len(head) - len(text); space >= 0 {
			return head + bar(s, space) + text
		}
	}
	return head[:min(len(head), max(width, 0))]
}

// bar is a bar of space columns at most, and a space behind it, or nothing.
func bar(s Status, space int) string {
	// Few widths, so that it does not change its own with every digit of what
	// stands behind it.
	for _, width := range []int{24, 16, 8} {
		if space < width+3 {
			continue
		}
		filled := 0
		if s.Total > 0 && s.Done > 0 {
			filled = max(1, int(float64(width)*min(1, float64(s.Done)/float64(s.Total))))
		}
		tip := ""
		if filled > 0 && filled < width {
			tip = ">"
		}
		return fmt.Sprintf("[%-*s] ", width, strings.Repeat("=", filled-len(tip))+tip)
	}
	return ""
}

func percent(s Status) string {
	if s.Total <= 0 {
		return "--%"
	}
	return fmt.Sprintf("%d%%", min(100, 100*s.Done/s.Total))
}

func total(s Status) string {
	switch {
	case s.Total <= 0:
		return "?"
	case s.Estimated:
		return fmt.Sprintf("~%d", s.Total)
	}
	return fmt.Sprint(s.Total)
}
