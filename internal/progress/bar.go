package progress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc/panics"
	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/units"
)

// Bar is a progress bar on a terminal that supports cursor movement. It occupies the last line of
// the terminal from StartBar to Stop. Text written to the Bar appears above it. A Bar is safe for
// concurrent use. Its methods block while writes to the terminal block.
type Bar struct {
	w      io.Writer
	status func() Status
	stop   chan struct{}
	once   sync.Once
	ended  chan struct{}

	mu      sync.Mutex
	meter   *Meter
	drawn   string // the bar on the screen; "" if there is none
	stopped bool
	broken  bool // status has panicked
}

const (
	// barInterval is how often the bar is drawn.
	barInterval = 150 * time.Millisecond
	// unknownWidth is the width of a terminal that does not report one, such as a
	// serial line.
	unknownWidth = 80
	// erase moves the cursor up to the bar, which ends with a line break, and erases from
	// there to the end of the screen. It starts with \r because the terminal may have echoed
	// ^C.
	erase = "\r\x1b[1A\x1b[J"
)

var errStopped = errors.New("progress: the bar has been stopped")

// StartBar draws a bar on the terminal w until Stop is called. The bar is as wide as the
// terminal, or 80 columns if the width is unknown. status is called by one goroutine at a
// time, and must not write to the Bar.
func StartBar(w io.Writer, status func() Status) *Bar {
	b := &Bar{w: w, status: status, stop: make(chan struct{}), ended: make(chan struct{}), meter: NewMeter(time.Now)}
	go b.run()
	return b
}

func (b *Bar) run() {
	defer close(b.ended)
	ticker := time.NewTicker(barInterval)
	defer ticker.Stop()
	for {
		b.mu.Lock()
		b.show("", b.line())
		b.mu.Unlock()
		select {
		case <-b.stop:
			return
		case <-ticker.C:
		}
	}
}

// line returns the text of the bar for the current status.
// After a panic in status, line returns "", which removes the bar.
func (b *Bar) line() (text string) {
	if b.broken {
		return ""
	}
	if p := panics.Try(func() {
		s := b.status()
		rate, remaining := b.meter.Add(s)
		// The last column stays free, because some terminals wrap the line when this column is used.
		text = draw(s, rate, remaining, widthOf(b.w)-1)
	}); p != nil {
		b.broken, text = true, ""
	}
	return text
}

// show replaces the bar by text, and draws a new bar below the text, in a single write. text is
// empty or consists of whole lines.
func (b *Bar) show(text, bar string) {
	if text == "" && bar == b.drawn {
		return
	}
	if b.drawn != "" {
		text = erase + text
	}
	if bar != "" {
		text += bar + "\n"
	}
	if text == "" {
		return
	}
	_, _ = io.WriteString(b.w, text) // fails only if the terminal is gone
	b.drawn = bar
}

// Write prints p, which is one or more whole lines, above the bar.
func (b *Bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return 0, errStopped
	}
	b.show(string(p), b.line())
	return len(p), nil
}

// Stop removes the bar. Text that was written above the bar stays. A second Stop does nothing.
func (b *Bar) Stop() {
	b.once.Do(func() { close(b.stop) })
	<-b.ended
	b.mu.Lock()
	defer b.mu.Unlock()
	b.show("", "")
	b.stopped = true
}

func widthOf(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return unknownWidth
	}
	if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
		return width
	}
	return unknownWidth
}

// draw returns the line of the bar, which has at most width columns. On a narrow terminal it
// omits the least important parts.
func draw(s Status, rate float64, remaining time.Duration, width int) string {
	done := fmt.Sprintf("%d/%s", s.Done, total(s))
	var speed, timeLeft, failed, running, memory string
	if rate > 0 {
		speed = "  " + units.Rate(rate) + "/s"
	}
	if remaining >= 0 {
		timeLeft = "  " + units.Duration(remaining) + " left"
	}
	if s.Failed > 0 {
		failed = fmt.Sprintf("  %d failed", s.Failed)
	}
	if s.Waiting > 0 {
		failed += fmt.Sprintf("  %d to retry", s.Waiting)
	}
	if s.Running > 0 {
		running = fmt.Sprintf("  %d running", s.Running)
		if s.Memory > 0 {
			memory = "  " + units.Size(s.Memory)
		}
	}
	head := fmt.Sprintf("%4s ", percent(s))
	for _, text := range []string{
		done + " tasks" + speed + timeLeft + running + memory + failed,
		done + " tasks" + speed + timeLeft + running + failed,
		done + " tasks" + speed + timeLeft + failed,
		done + timeLeft + failed,
		done + failed,
		done,
	} {
		if space := width - len(head) - len(text); space >= 0 {
			return head + bar(s, space) + text
		}
	}
	return head[:min(len(head), max(width, 0))]
}

// bar returns a bar and a space, together at most space columns wide, or "" if they do not
// fit.
func bar(s Status, space int) string {
	// A few fixed widths, so that the width does not change with each digit after the bar.
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
