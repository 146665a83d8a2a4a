package cloudqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
)

// loader is a Loader that stores the tasks in memory. Its functions prepare and send can return
// errors.
type loader struct {
	prepare func(id string) error
	send    func(ctx context.Context, id string) error

	mu sync.Mutex
	in map[string]int
}

func (l *loader) Prepare(task pipeline.Task) (func(context.Context) error, error) {
	if l.prepare != nil {
		if err := l.prepare(task.ID); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		if l.send != nil {
			if err := l.send(ctx, task.ID); err != nil {
				return err
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.in[task.ID]++
		return nil
	}, nil
}

func (*loader) Close(context.Context) {}

// numbered returns a source of n tasks with the ids 0, 1, 2 and so on. If n is negative, the source
// is infinite.
func numbered(n int) pipeline.Source {
	return function.New(func(yield func(pipeline.Task, error) bool) {
		for i := 0; n < 0 || i < n; i++ {
			if !yield(pipeline.Task{ID: fmt.Sprint(i), Data: []byte("1")}, nil) {
				return
			}
		}
	})
}

func TestLoad(t *testing.T) {
	t.Parallel()
	errBoom := errors.New("boom")
	stopped, stop := context.WithCancel(t.Context())
	for name, tc := range map[string]struct {
		ctx     context.Context
		loader  *loader
		n       int
		limit   int64
		in      int64
		beyond  func(n int) bool
		wantErr string
	}{
		"all":          {loader: &loader{}, n: 1000, limit: -1, in: 1000},
		"none":         {loader: &loader{}, n: 0, limit: -1, in: 0},
		"a limit":      {loader: &loader{}, n: 1000, limit: 37, in: 37},
		"a limit of 0": {loader: &loader{}, n: 1000, limit: 0, in: 0},
		"a task that the queue does not take": {
			loader: &loader{prepare: func(id string) error {
				if id == "42" {
					return errBoom
				}
				return nil
			}}, n: 1000, limit: -1, in: 42, wantErr: `task 43, "42": boom`,
		},
		"a task that cannot be sent": {
			loader: &loader{send: func(_ context.Context, id string) error {
				if id == "42" {
					return errBoom
				}
				return nil
			}}, n: 100_000, limit: -1, in: 42, wantErr: `task 43, "42": boom`,
			beyond: func(n int) bool { return n < 100_000-43 }, // how many tasks are sent before the load ends depends on the scheduler
		},
		"a signal": {
			ctx: stopped,
			loader: &loader{send: func(_ context.Context, id string) error {
				if id == "300" {
					stop() // requests in flight continue
				}
				return nil
			}}, n: -1, limit: -1, in: -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.loader.in = map[string]int{}
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			l := NewLoad(tc.loader, numbered(tc.n), tc.limit)
			err := l.Run(ctx)
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("%v", err)
			}
			if tc.in >= 0 && l.Loaded() != tc.in || tc.in < 0 && l.Loaded() < 301 {
				t.Errorf("Loaded is %d", l.Loaded())
			}
			if whole := tc.wantErr == "" && tc.ctx == nil; l.Exhausted() != whole {
				t.Errorf("Exhausted is %v", l.Exhausted())
			}
			if b := l.OutOfOrder(); tc.beyond == nil && b != 0 || tc.beyond != nil && !tc.beyond(b) {
				t.Errorf("OutOfOrder is %d", b)
			}
			if int64(len(tc.loader.in)) != l.Loaded()+int64(l.OutOfOrder()) {
				t.Errorf("%d tasks are in the queue, but Loaded is %d and OutOfOrder is %d", len(tc.loader.in), l.Loaded(), l.OutOfOrder())
			}
			for i := range l.Loaded() {
				if tc.loader.in[fmt.Sprint(i)] != 1 {
					t.Errorf("task %d is in the queue %d times", i, tc.loader.in[fmt.Sprint(i)])
				}
			}
		})
	}
}

// If ctx ends while a request hangs, Run returns after sendGrace. The sum of Loaded and
// OutOfOrder is then the number of tasks in the queue.
func TestLoad_EndsWhileRequestsHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		l := NewLoad(&loader{in: map[string]int{}, send: func(ctx context.Context, id string) error {
			if id == "7" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}, numbered(50), -1)
		var asked time.Time
		time.AfterFunc(time.Minute, func() { asked = time.Now(); stop() })
		err := l.Run(ctx)
		if took := time.Since(asked); err != nil || asked.IsZero() || took != sendGrace {
			t.Errorf("Run returned %v, %v after the stop", err, took)
		}
		if l.Loaded() != 7 || l.OutOfOrder() != 42 || l.Exhausted() {
			t.Errorf("Loaded is %d, OutOfOrder is %d", l.Loaded(), l.OutOfOrder())
		}
	})
}
