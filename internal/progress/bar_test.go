package progress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDraw(t *testing.T) {
	t.Parallel()
	half := Status{Done: 500, Failed: 3, Total: 1000, Estimated: true}
	huge := Status{Done: 12_345_678, Failed: 1_234_567, Total: 100_000_000}
	for _, tc := range []struct {
		status Status
		rate   float64
		left   time.Duration
		width  int
		want   string
	}{
		{Status{}, 0, -1, 79, " --% [                        ] 0/? tasks"},
		{Status{Total: 1000}, 0, -1, 79, "  0% [                        ] 0/1000 tasks"},
		{Status{Done: 50, Total: 1000}, 5, 190 * time.Second, 79, "  5% [>                       ] 50/1000 tasks  5.00/s  3m10s left"},
		{Status{Done: 50}, 5, -1, 79, " --% [                        ] 50/? tasks  5.00/s"},
		{half, 12.34, 41 * time.Second, 79, " 50% [===========>            ] 500/~1000 tasks  12.3/s  41s left  3 failed"},
		{half, 12.34, 41 * time.Second, 70, " 50% [=======>        ] 500/~1000 tasks  12.3/s  41s left  3 failed"},
		{half, 12.34, 41 * time.Second, 60, " 50% [===>    ] 500/~1000 tasks  12.3/s  41s left  3 failed"},
		{half, 12.34, 41 * time.Second, 50, " 50% 500/~1000 tasks  12.3/s  41s left  3 failed"},
		{half, 12.34, 41 * time.Second, 39, " 50% 500/~1000  41s left  3 failed"},
		{half, 12.34, 41 * time.Second, 30, " 50% 500/~1000  3 failed"},
		{half, 12.34, 41 * time.Second, 20, " 50% 500/~1000"},
		{half, 12.34, 41 * time.Second, 10, " 50% "},
		{half, 12.34, 41 * time.Second, 3, " 50"},
		{half, 12.34, 41 * time.Second, -1, ""},
		{huge, 12345, 2 * time.Hour, 79, " 12% [>       ] 12345678/100000000 tasks  12345/s  2h00m left  1234567 failed"},
		{huge, 12345, 2 * time.Hour, 39, " 12% 12345678/100000000  1234567 failed"},
		{Status{Done: 500, Failed: 3, Running: 8, Total: 1000}, 12.34, 41 * time.Second, 79, " 50% [=======>        ] 500/1000 tasks  12.3/s  41s left  8 running  3 failed"},
		{Status{Done: 500, Failed: 3, Running: 8, Memory: 300 << 20, Total: 1000}, 12.34, 41 * time.Second, 89, " 50% [=======>        ] 500/1000 tasks  12.3/s  41s left  8 running  300 MiB  3 failed"},
		{Status{Done: 500, Failed: 3, Running: 8, Memory: 300 << 20, Total: 1000}, 12.34, 41 * time.Second, 66, " 50% 500/1000 tasks  12.3/s  41s left  8 running  3 failed"},
		{Status{Done: 500, Failed: 3, Running: 8, Total: 1000}, 12.34, 41 * time.Second, 52, " 50% 500/1000 tasks  12.3/s  41s left  3 failed"},
		{Status{Done: 1000, Total: 1000}, 100, 0, 79, "100% [========================] 1000/1000 tasks  100/s  0.0s left"},
		{Status{Done: 1001, Total: 1000, Estimated: true}, 100, 0, 79, "100% [========================] 1001/~1000 tasks  100/s  0.0s left"},
	} {
		t.Run(fmt.Sprintf("%d columns, %d done", tc.width, tc.status.Done), func(t *testing.T) {
			t.Parallel()
			got := draw(tc.status, tc.rate, tc.left, tc.width)
			if got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			if len(got) > max(tc.width, 0) {
				t.Errorf("it takes %d columns of %d", len(got), tc.width)
			}
		})
	}
}

// Lines written while the bar is shown appear completely and in order, with the bar below them.
// Stop erases the bar.
func TestBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		began := time.Now()
		b := StartBar(&out, func() Status {
			return Status{Done: int64(time.Since(began).Seconds() * 10), Total: 100}
		})
		for i := range 5 {
			time.Sleep(time.Second) // of the bubble's time
			fmt.Fprintf(b, "line %d\n", i)
		}
		b.Stop()
		b.Stop()
		s := newScreen(80)
		before := s.play(t, out.String())
		if got, want := s.text(), "line 0\nline 1\nline 2\nline 3\nline 4\n"; got != want {
			t.Errorf("in the end the screen shows\n%s\nwant\n%s", got, want)
		}
		if want := "line 4\n 50% [===========>            ] 50/100 tasks  10.0/s  "; !strings.Contains(before, want) {
			t.Errorf("before it the screen showed\n%s\nwant\n%s", before, want)
		}
		if n, err := b.Write([]byte("late\n")); err == nil {
			t.Errorf("a Write after Stop took %d bytes", n)
		}
	})
}

// If writing fails, for example because the terminal was closed, neither Write nor Stop blocks.
func TestBar_AfterTheTerminalWasClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := StartBar(gone{}, func() Status { return Status{} })
		time.Sleep(time.Second)
		_, _ = b.Write([]byte("line\n"))
		b.Stop()
	})
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, fmt.Errorf("input/output error") }

// screen simulates the functions of a terminal that a bar uses.
type screen struct {
	columns int
	lines   []string
	row     int
}

func newScreen(columns int) *screen { return &screen{columns: columns, lines: []string{""}} }

func (s *screen) text() string { return strings.Join(s.lines, "\n") }

// play interprets what was written to a terminal, and returns the screen as it was before the bar
// was erased for the last time.
func (s *screen) play(t *testing.T, out string) (before string) {
	t.Helper()
	for len(out) > 0 {
		switch {
		case strings.HasPrefix(out, "\x1b["):
			var up int
			if _, err := fmt.Sscanf(out, "\x1b[%dA\x1b[J", &up); err != nil {
				t.Fatalf("unknown sequence in %.20q", out)
			}
			before = s.text()
			s.row -= up
			s.lines = append(s.lines[:s.row:s.row], "")
			out = out[strings.Index(out, "J")+1:]
		case out[0] == '\n':
			s.row++
			s.lines = append(s.lines, "")
			out = out[1:]
		case strings.HasPrefix(out, "\r\x1b["), strings.HasPrefix(out, "\r\n"): // a terminal's driver makes \r\n of \n
			out = out[1:]
		default:
			s.lines[s.row] += out[:1]
			if len(s.lines[s.row]) >= s.columns {
				t.Fatalf("the last of %d columns is used: %q", s.columns, s.lines[s.row])
			}
			out = out[1:]
		}
	}
	return before
}

// Text that the terminal echoes below the bar, such as ^C, is erased with the bar.
func TestBar_ErasesAnEcho(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := StartBar(&out, func() Status { return Status{Total: 100} })
		synctest.Wait()
		out.Reset()
		fmt.Fprintln(b, "12:34:56 INF shutting down")
		if got, want := out.String(), "\r\x1b[1A\x1b[J12:34:56 INF shutting down\n"; !strings.HasPrefix(got, want) {
			t.Errorf("wrote %q, want first %q: the cursor may be in any column", got, want)
		}
		b.Stop()
	})
}

// A panic in status removes the bar; text is still written.
func TestBar_PanicRemovesTheBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := StartBar(&out, func() Status { panic("a fault") })
		time.Sleep(time.Second) // of the bubble's time
		fmt.Fprintln(b, "line")
		b.Stop()
		if got := out.String(); got != "line\n" {
			t.Errorf("written: %q", got)
		}
	})
}
