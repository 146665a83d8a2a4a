package startup_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/ctworker/ctworker/internal/startup"
)

func Example() {
	value, err := startup.Open(context.Background(), func() (int, error) { return 3, nil }, func(int) {}, "opening the file")
	fmt.Println(value, err)
	// Output: 3 <nil>
}

func TestOpen_ReturnsResult(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	v, err := startup.Open(t.Context(), func() (int, error) { return 4, broken }, func(int) { t.Error("discarded") }, "x")
	if v != 4 || !errors.Is(err, broken) {
		t.Errorf("%d, %v", v, err)
	}
}

func TestOpen_ReturnsWhenContextIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		unblock, discarded := make(chan struct{}), 0
		go func() {
			synctest.Wait()
			cancel(errors.New("received a signal"))
		}()
		_, err := startup.Open(ctx, func() (int, error) { <-unblock; return 5, nil }, func(v int) { discarded += v }, "opening the pipe")
		if err == nil || err.Error() != "opening the pipe: received a signal" {
			t.Errorf("error %v", err)
		}
		close(unblock)
		synctest.Wait()
		if discarded != 5 {
			t.Errorf("discarded %d, want the value that was opened after the context was done", discarded)
		}
		if _, err := startup.Open(ctx, func() (int, error) { t.Error("opened"); return 0, nil }, func(int) {}, "x"); err == nil {
			t.Error("no error although the context was done")
		}
	})
}

func TestOpen_ReturnsPanicAsError(t *testing.T) {
	t.Parallel()
	_, err := startup.Open(t.Context(), func() (int, error) { panic("a fault") }, func(int) { t.Error("discarded") }, "x")
	if err == nil || err.Error() != "panic: a fault" {
		t.Errorf("error %v", err)
	}
}
