package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader simulates the reader of standard error. It is a writer whose Write blocks until it receives from the
// channel reads.
type reader struct {
	mu    sync.Mutex
	text  strings.Builder
	reads chan struct{} // nil: Write does not block
}

func (r *reader) Write(p []byte) (int, error) {
	if r.reads != nil {
		<-r.reads
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func smallOutput(r *reader) *output {
	o := newOutput(r)
	o.size, o.reserve = 100, 50
	o.note = func(n int64) []byte { return fmt.Appendf(nil, "%d dropped\n", n) }
	return o
}

func TestOutput_WritesInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		o := smallOutput(r)
		want := ""
		for i := range 1000 {
			line := fmt.Sprintf("line %d\n", i)
			want += line
			if i%3 == 0 {
				o.Keep([]byte(line))
				synctest.Wait()
			} else if _, err := o.Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		o.close(time.Second, nil)
		if r.String() != want {
			t.Errorf("wrote %.200q", r.String())
		}
		o.Keep([]byte("late\n"))
		o.close(time.Second, nil)
	})
}

// A reader that no longer reads delays only one Write. Each line that does not fit is counted. The
// lines that are passed to Keep use the reserve.
func TestOutput_ReaderThatHasStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{reads: make(chan struct{})}
		o := smallOutput(r)
		_, _ = o.Write([]byte("first\n"))
		synctest.Wait() // it is being written
		began := time.Now()
		line := []byte(strings.Repeat("x", 29) + "\n")
		for i := range 100 {
			_, err := o.Write(line)
			if fits := i < 3; fits != (err == nil) || !fits && !errors.Is(err, errDropped) {
				t.Errorf("line %d: %v", i, err)
			}
		}
		if waited := time.Since(began); waited != outputMaxWait {
			t.Errorf("100 lines waited %v, want %v", waited, outputMaxWait)
		}
		o.Keep([]byte("error\n"))
		o.Keep([]byte(strings.Repeat("y", 100) + "\n"))
		if time.Since(began) != outputMaxWait {
			t.Error("Keep blocks")
		}
		if o.flush(time.Minute, nil) {
			t.Error("flush reports that everything was written")
		}
		signals := make(chan os.Signal, 1)
		signals <- os.Interrupt
		if waited := time.Now(); o.flush(time.Hour, signals) || time.Since(waited) != 0 {
			t.Error("a signal does not end the wait")
		}
		close(r.reads)
		synctest.Wait()
		want := "first\n" + strings.Repeat(string(line), 3) + "error\n98 dropped\n"
		if r.String() != want {
			t.Errorf("wrote %q, want %q", r.String(), want)
		}
		if _, err := o.Write([]byte("again\n")); err != nil {
			t.Error(err)
		}
		o.close(time.Second, nil)
		if r.String() != want+"again\n" {
			t.Errorf("wrote %q", r.String())
		}
	})
}

// No line is dropped if the reader empties the buffer within outputMaxWait.
func TestOutput_SlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{reads: make(chan struct{})}
		o := smallOutput(r)
		var reading sync.WaitGroup
		defer reading.Wait()
		reading.Go(func() {
			for {
				time.Sleep(outputMaxWait * 9 / 10) // of the bubble's time
				select {
				case r.reads <- struct{}{}:
				case <-o.ended:
					return
				}
			}
		})
		want := ""
		for i := range 50 {
			line := fmt.Sprintf("%03d %s\n", i, strings.Repeat("x", 40))
			want += line
			if _, err := o.Write([]byte(line)); err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
		}
		o.close(time.Hour, nil)
		if r.String() != want {
			t.Error("lines are missing")
		}
	})
}

// A line that is larger than the buffer is written.
func TestOutput_LargeLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		o := smallOutput(r)
		large := strings.Repeat("x", 1000) + "\n"
		for range 3 {
			if _, err := o.Write([]byte(large)); err != nil {
				t.Error(err)
			}
		}
		o.close(time.Second, nil)
		if r.String() != strings.Repeat(large, 3) {
			t.Errorf("wrote %d bytes", len(r.String()))
		}
	})
}
