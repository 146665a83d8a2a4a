package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/pipeline"
)

// receiveFunc is a source whose Receive is a function.
type receiveFunc func(ctx context.Context, limit int) ([]*pipeline.Delivery, error)

func (f receiveFunc) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return f(ctx, limit)
}
func (receiveFunc) Close(context.Context) error { return nil }

// A source that breaks the contract of Receive fails the run with an error that says how.
func TestFrom_RejectsBrokenSources(t *testing.T) {
	t.Parallel()
	task := func(id string) *pipeline.Delivery {
		return pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte("1")}, nil, 1)
	}
	for want, receive := range map[string]receiveFunc{
		"neither tasks nor an error": func(context.Context, int) ([]*pipeline.Delivery, error) { return nil, nil },
		"tasks although at most": func(_ context.Context, limit int) (ds []*pipeline.Delivery, err error) {
			for i := range limit + 1 {
				ds = append(ds, task(fmt.Sprint(i)))
			}
			return ds, nil
		},
		"a task without an ID": func(context.Context, int) ([]*pipeline.Delivery, error) {
			return []*pipeline.Delivery{task("")}, nil
		},
	} {
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 2})
		pipeline.To(pipeline.Via(pipeline.From(r, "mine", receive), "complete", complete), "ack", ackAll)
		var failed *pipeline.StageError
		if err := r.Wait(); !errors.As(err, &failed) || failed.Stage != "mine" || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestFrom_PanicsIfCalledTwice(t *testing.T) {
	t.Parallel()
	r := pipeline.New(t.Context(), pipeline.Options{})
	tasks := pipeline.From(r, "one", &source{Rec: newRecorder(), N: 1})
	func() {
		defer func() {
			if p := recover(); !strings.Contains(fmt.Sprint(p), "From is called twice") {
				t.Errorf("panic %v", p)
			}
		}()
		pipeline.From(r, "two", &source{Rec: newRecorder(), N: 1})
	}()
	pipeline.To(pipeline.Via(tasks, "complete", complete), "ack", ackAll)
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
}

// shortLease is a lease that ends after a second.
type shortLease struct{ until time.Time }

func (shortLease) Ack(context.Context) error                                    { return nil }
func (shortLease) Release(context.Context, time.Duration) error                 { return nil }
func (shortLease) Extend(context.Context, time.Duration) (t time.Time, e error) { return t, e }
func (l shortLease) ExpiresAt() time.Time                                       { return l.until }

// A run over a queue does not stall if a stage drops a task, because the queue delivers the task again. The run
// logs the name of the stage anyway.
func TestDropped_WarnsIfLeasesExpireInAStage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := pipeline.New(t.Context(), pipeline.Options{Slots: 2, Log: zerolog.New(zerolog.SyncWriter(&log))})
		queue := receiveFunc(func(ctx context.Context, _ int) ([]*pipeline.Delivery, error) {
			select {
			case <-time.After(700 * time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			d := pipeline.NewDelivery(pipeline.Task{ID: "again", Data: []byte("1")}, shortLease{time.Now().Add(2 * time.Second)}, 1)
			return []*pipeline.Delivery{d}, nil
		})
		slow := func(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[pipeline.Result]) error {
			for d := range in { // a task is always running, so the run never stalls
				<-time.After(900 * time.Millisecond)
				if out.Send(ctx, pipeline.Result{Delivery: d}) != nil {
					return nil
				}
			}
			return nil
		}
		tasks := pipeline.Via(pipeline.From(r, "queue", queue), "careless", dropping(1))
		pipeline.To(pipeline.Via(tasks, "slow", slow), "ack", ackAll)
		time.AfterFunc(time.Minute, func() { r.Stop(errors.New("enough")) })
		if err := r.Wait(); err == nil || !strings.Contains(err.Error(), "careless: 1 tasks were dropped") {
			t.Errorf("error %v", err)
		}
		if text := log.String(); strings.Count(text, "the leases of tasks have expired while a stage owned the tasks") != 1 || !strings.Contains(text, `"stage":"careless"`) {
			t.Errorf("log %s", text)
		}
	})
}

// A nil argument is reported at once, with the name of the stage.
func TestCompose_NilArguments(t *testing.T) {
	t.Parallel()
	r := pipeline.New(t.Context(), pipeline.Options{})
	for want, f := range map[string]func(){
		`From: the source of stage "mine" is nil`: func() { pipeline.From(r, "mine", nil) },
		`Map: the function of stage "mine" is nil`: func() {
			pipeline.Map[*pipeline.Delivery, *pipeline.Delivery](pipeline.Flow[*pipeline.Delivery]{}, "mine", nil)
		},
		`Via: the stage of stage "mine" is nil`: func() {
			pipeline.Via[*pipeline.Delivery, *pipeline.Delivery](pipeline.Flow[*pipeline.Delivery]{}, "mine", nil)
		},
		`To: the consumer of stage "mine" is nil`: func() { pipeline.To(pipeline.Flow[*pipeline.Delivery]{}, "mine", nil) },
		`ToBatches: the consumer of stage "mine"`: func() { pipeline.ToBatches(pipeline.Flow[*pipeline.Delivery]{}, "mine", nil) },
		`Tee: sink 1 is nil`:                      func() { pipeline.Tee(nil) },
		`Tee: sink 2 is nil`:                      func() { pipeline.Tee(pipeline.Tee(), nil) },
	} {
		func() {
			defer func() {
				if p := recover(); !strings.Contains(fmt.Sprint(p), want) {
					t.Errorf("panic %v, want %s", p, want)
				}
			}()
			f()
		}()
	}
}
