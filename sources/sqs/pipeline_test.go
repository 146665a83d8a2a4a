package sqs_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
	source "github.com/ctworker/ctworker/sources/sqs"
	"github.com/ctworker/ctworker/stages"
)

// worker is a pipeline with short leases that runs the tasks of a queue in moto.
type worker struct {
	client *sqs.Client
	url    string
	run    *pipeline.Run
	rec    *pipelinetest.Recorder
	came   chan struct{} // receives a value for each event
	ended  chan error
}

func start(t *testing.T, tasks, slots, ahead int, f func(ctx context.Context, task pipeline.Task) (bool, []byte, error)) *worker {
	t.Helper()
	endpoint := sqstest.Start(t)
	w := &worker{rec: &pipelinetest.Recorder{}, came: make(chan struct{}, 1000), ended: make(chan error, 1)}
	w.client, w.url = sqstest.Client(t, endpoint, "jobs")
	for i := range tasks {
		body := fmt.Sprintf(`{"task_id": "t%d", "data": {}}`, i)
		if _, err := w.client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &w.url, MessageBody: &body}); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_ENDPOINT_URL_SQS", endpoint)
	src, err := source.Open(t.Context(), source.Options{Queue: "jobs", Region: "us-east-1", Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w.run = pipeline.New(t.Context(), pipeline.Options{Slots: slots, Prefetch: ahead, GracePeriod: time.Minute})
	received := pipeline.From(w.run, "source", src)
	kept := pipeline.Via(received, "extend", stages.Extend(w.run, stages.ExtendOptions{LeaseDuration: 2 * time.Second}))
	results := pipeline.Via(kept, "execute", stages.Execute(w.run, stages.RunnerFunc(f)))
	decisions := pipeline.Map(results, "classify", stages.Classify(stages.RetryOptions{}))
	pipeline.ToBatches(decisions, "settle", stages.Settle(w, stages.SettleOptions{}))
	go func() { w.ended <- w.run.Wait() }()
	return w
}

// Write implements pipeline.Sink.
func (w *worker) Write(ctx context.Context, events []pipeline.Event) error {
	if err := (pipelinetest.Sink{Rec: w.rec}).Write(ctx, events); err != nil {
		return err
	}
	for range events {
		w.came <- struct{}{}
	}
	return nil
}

// Close implements pipeline.Sink.
func (*worker) Close(context.Context) error { return nil }

// messages returns the number of messages that can be received, and the number of messages that are in
// flight.
func (w *worker) messages(t *testing.T) (visible, inFlight string) {
	t.Helper()
	out, err := w.client.GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{
		QueueUrl: &w.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes["ApproximateNumberOfMessages"], out.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

// A task that runs for several times the lease duration is delivered only once. After the task has
// ended, it is acknowledged without delay, even while a long poll is open.
func TestALongTaskIsDeliveredOnce(t *testing.T) {
	const tasks = 20
	w := start(t, tasks, 4, 0, func(ctx context.Context, task pipeline.Task) (bool, []byte, error) {
		if task.ID == "t3" {
			select {
			case <-time.After(5 * time.Second): // several times the lease duration
			case <-ctx.Done():
				return false, nil, context.Cause(ctx)
			}
		}
		return false, []byte("1"), nil
	})
	for range tasks {
		<-w.came
	}
	began := time.Now()
	for {
		visible, inFlight := w.messages(t)
		if visible == "0" && inFlight == "0" {
			break
		}
		if time.Since(began) > time.Second {
			t.Fatalf("%s messages visible and %s in flight, a second after the last event", visible, inFlight)
		}
	}
	w.run.Stop(nil)
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
	seen := map[string]int{}
	for _, e := range w.rec.Events() {
		if seen[e.TaskID]++; seen[e.TaskID] > 1 || e.Attempt != 1 || e.Type != pipeline.TaskCompleted {
			t.Errorf("%s %s: attempt %d, %s", e.Type, e.TaskID, e.Attempt, e.Outcome.Exception)
		}
	}
	if len(seen) != tasks {
		t.Errorf("%d tasks", len(seen))
	}
}

// When the worker stops, prefetched tasks become visible to other workers immediately.
func TestStop_ReleasesPrefetchedTasks(t *testing.T) {
	running, finish := make(chan struct{}, 1), make(chan struct{})
	w := start(t, 10, 1, 9, func(context.Context, pipeline.Task) (bool, []byte, error) {
		running <- struct{}{}
		<-finish
		return false, nil, nil
	})
	<-running
	for began := time.Now(); ; {
		if _, inFlight := w.messages(t); inFlight == "10" {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the others have not been received")
		}
	}
	began := time.Now()
	w.run.Stop(nil)
	for {
		visible, inFlight := w.messages(t)
		if visible == "9" && inFlight == "1" {
			break
		}
		if time.Since(began) > time.Second {
			t.Fatalf("%s messages are visible and %s in flight after a second", visible, inFlight)
		}
	}
	close(finish)
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
	if visible, inFlight := w.messages(t); visible != "9" || inFlight != "0" || len(w.rec.Events()) != 1 {
		t.Errorf("%s visible, %s in flight, %d events", visible, inFlight, len(w.rec.Events()))
	}
}
