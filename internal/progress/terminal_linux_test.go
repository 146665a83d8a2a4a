package progress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal of the given width. What is written to tty
// can be read from screen.
func terminal(t *testing.T, columns uint16) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	conn, err := screen.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var failed error
	if err := conn.Control(func(fd uintptr) {
		failed = errors.Join(
			unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}),
		)
		var err error
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		failed = errors.Join(failed, err)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// columnsOf returns the width of the bar on a terminal that reports this many columns.
func columnsOf(columns uint16) int {
	if columns == 0 {
		return unknownWidth
	}
	return int(columns)
}

// On a real terminal, the bar is as wide as the terminal, and no line wraps.
func TestBarOnATerminal(t *testing.T) {
	t.Parallel()
	for _, columns := range []uint16{80, 40, 12, 0} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			end, tty := terminal(t, columns)
			drawn := make(chan struct{}, 1000)
			b := StartBar(tty, func() Status {
				drawn <- struct{}{}
				return Status{Failed: 678, Total: 1_000_000, Estimated: true} // no rate
			})
			shown := make(chan string)
			go func() {
				text, _ := io.ReadAll(end) // ends with EIO when tty is closed
				shown <- string(text)
			}()
			for i := range 3 {
				select {
				case <-drawn:
				case <-time.After(10 * time.Second):
					t.Fatal("the bar is not drawn")
				}
				fmt.Fprintf(b, "line %d\n", i)
			}
			b.Stop()
			if err := tty.Close(); err != nil {
				t.Error(err)
			}
			s := newScreen(columnsOf(columns))
			out := <-shown
			before := s.play(t, out)
			if got := s.text(); got != "line 0\nline 1\nline 2\n" {
				t.Errorf("in the end the screen shows\n%s\nof %q", got, out)
			}
			want := map[uint16]string{
				80: "  0% [                        ] 0/~1000000 tasks  678 failed\n",
				40: "  0% 0/~1000000 tasks  678 failed\n",
				12: "  0% \n",
				0:  "  0% [                        ] 0/~1000000 tasks  678 failed\n",
			}[columns]
			if !strings.HasSuffix(before, want) {
				t.Errorf("before it the screen showed\n%s\nwant last\n%s", before, want)
			}
		})
	}
}
