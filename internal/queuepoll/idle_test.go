package queuepoll_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/queuepoll"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// asked is a queue whose responses the test determines: each request calls answer.
type asked struct {
	mu       sync.Mutex
	waits    []time.Duration
	open     int // number of open requests
	released int
	answer   func(ctx context.Context, n int, wait time.Duration) (messages int, err error)
}

func (a *asked) ask(ctx context.Context, n int, wait time.Duration, _ string) ([]queuepoll.Message, error) {
	a.mu.Lock()
	a.waits = append(a.waits, wait)
	a.open++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.open--
	}()
	count, err := a.answer(ctx, n, wait)
	var all []queuepoll.Message
	for range count {
		all = append(all, queuepoll.Message{ID: "m", Body: `{"task_id": "a", "data": 1}`, Lease: countedLease(&a.mu, &a.released)})
	}
	return all, err
}

func (a *asked) requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waits)
}

func (a *asked) poller(wait time.Duration) *queuepoll.Poller {
	return queuepoll.New(queuepoll.Options{
		Provider: "test", Receive: a.ask, MaxBatchSize: 10, Wait: wait, Lease: time.Minute,
		Classify: func(error) retry.Class { return retry.Transient }, Explain: func(err error) error { return err },
	})
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// A server may answer immediately although the request asks it to wait. The Poller then sends a few
// requests in short succession, and after that about one request per requested wait.
func TestEmptyAnswersArePaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{answer: func(context.Context, int, time.Duration) (int, error) { return 0, nil }}
		p := a.poller(20 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began, soon := time.Now(), 0
		go func() {
			<-time.After(2 * time.Second)
			soon = a.requests()
		}()
		if _, err := p.Receive(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.Close(t.Context())
		if n := a.requests(); n < 150 || n > 220 || soon < 3 || soon > 5 {
			t.Errorf("%d requests in %v, %d in the first two seconds", n, time.Since(began), soon)
		}
	})
}

// After a message, the Poller sends the next request without a pause. It also does not pause if the
// server waits before an empty answer.
func TestNoPauseAfterAMessageOrAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{}
		a.answer = func(_ context.Context, _ int, wait time.Duration) (int, error) {
			if a.requests()%5 == 0 {
				return 1, nil
			}
			<-time.After(wait + 10*time.Millisecond)
			return 0, nil
		}
		p := a.poller(20 * time.Second)
		began := time.Now()
		for range 10 {
			if _, err := p.Receive(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
		p.Close(t.Context())
		if took := time.Since(began); took > 41*20*time.Second || a.requests() != 50 {
			t.Errorf("%d requests in %v", a.requests(), took)
		}
	})
}

// When ReceiveUntilIdle returns ErrIdle, no request is open, and the last answer arrived at most a
// second before the idle timeout.
func TestIdle_NoRequestIsLeftBehind(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]func(time.Duration) time.Duration{
		"after the wait":      func(wait time.Duration) time.Duration { return wait + 20*time.Millisecond },
		"at once":             func(time.Duration) time.Duration { return 0 },
		"after half the wait": func(wait time.Duration) time.Duration { return wait / 2 },
		"later than asked":    func(wait time.Duration) time.Duration { return wait + 2*time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var last time.Time
				a := &asked{answer: func(_ context.Context, _ int, wait time.Duration) (int, error) {
					<-time.After(answers(wait))
					last = time.Now()
					return 0, nil
				}}
				p := a.poller(20 * time.Second)
				end := time.Now().Add(5 * time.Second)
				_, err := p.ReceiveUntilIdle(t.Context(), 10, at(end))
				now := time.Now()
				if !errors.Is(err, pipeline.ErrIdle) || a.open != 0 || now.Before(end) || now.After(end.Add(4*time.Second)) || end.Sub(last) > time.Second {
					t.Errorf("%v, %v after the end, %d under way, the last answer %v before it", err, now.Sub(end), a.open, end.Sub(last))
				}
				p.Close(t.Context())
			})
		})
	}
}

// If an answer arrives after the idle timeout, the Poller still waits for it, and returns its
// messages.
func TestIdle_WaitsForALateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{answer: func(context.Context, int, time.Duration) (int, error) {
			<-time.After(18 * time.Second)
			return 3, nil
		}}
		p := a.poller(20 * time.Second)
		ds, err := p.ReceiveUntilIdle(t.Context(), 10, at(time.Now().Add(3*time.Second)))
		if err != nil || len(ds) != 3 {
			t.Errorf("%d tasks, %v", len(ds), err)
		}
		p.Close(t.Context())
	})
}

// If the server does not answer, ErrIdle is not returned, because the queue may contain tasks.
func TestIdle_NotWhileThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{answer: func(context.Context, int, time.Duration) (int, error) { return 0, errors.New("no route to host") }}
		p := a.poller(20 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := p.ReceiveUntilIdle(ctx, 10, func() time.Time { return p.LastFailure().Add(3 * time.Second) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.Close(t.Context())
	})
}

// If a server sends more messages than requested, the surplus messages are released.
func TestMoreThanAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{answer: func(context.Context, int, time.Duration) (int, error) { return 25, nil }}
		p := a.poller(20 * time.Second)
		if ds, err := p.Receive(t.Context(), 2); err != nil || len(ds) != 2 {
			t.Errorf("%d tasks, %v", len(ds), err)
		}
		p.Close(t.Context())
		if a.released != 23 || a.requests() != 1 {
			t.Errorf("%d released after %d requests", a.released, a.requests())
		}
	})
}

// If a provider's library panics, the request is sent again.
func TestAPanicIsAFailedRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{}
		a.answer = func(context.Context, int, time.Duration) (int, error) {
			if a.requests() < 3 {
				panic("nil dereference")
			}
			return 1, nil
		}
		p := a.poller(20 * time.Second)
		if ds, err := p.Receive(t.Context(), 2); err != nil || len(ds) != 1 {
			t.Errorf("%d tasks, %v", len(ds), err)
		}
		p.Close(t.Context())
	})
}
