package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// harness implements testing.TB for the test servers, because this program is not a test.
type harness struct {
	testing.TB
	closers []func()
}

type fatal struct{ error }

func (*harness) Helper()            {}
func (h *harness) Cleanup(f func()) { h.closers = append(h.closers, f) }
func (h *harness) Fatal(args ...any) {
	panic(fatal{errors.New(strings.TrimSpace(fmt.Sprintln(args...)))})
}
func (h *harness) Fatalf(format string, args ...any) { panic(fatal{fmt.Errorf(format, args...)}) }
func (h *harness) Logf(string, ...any)               {}
func (h *harness) Context() context.Context          { return context.Background() }

func (h *harness) close() {
	for len(h.closers) > 0 {
		last := len(h.closers) - 1
		f := h.closers[last]
		h.closers = h.closers[:last]
		f()
	}
}

// server is a queue server with a proxy that counts requests.
type server struct {
	*harness
	name     string
	env      []string // environment of clients whose requests are counted
	direct   []string // environment of clients whose requests are not counted
	requests func() int
	address  string // address of the proxy
	project  string
}

// startServer starts the server for name, SQS or PubSub.
func startServer(name string) (s *server, err error) {
	s = &server{harness: &harness{}, name: name}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fatal:
			s.close()
			err = p.error
		default:
			panic(p)
		}
	}()
	if name == "SQS" {
		home := sqstest.Start(s)
		counter := sqstest.NewCounter(s, home)
		common := []string{"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "RMS_CLOUD_TASKS_PROVIDER=aws"}
		s.address, s.requests = counter.URL, counter.Total
		s.env = append([]string{"AWS_ENDPOINT_URL=" + counter.URL}, common...)
		s.direct = append([]string{"AWS_ENDPOINT_URL=" + home}, common...)
		return s, nil
	}
	s.project = "p-" + strings.ToLower(rand.Text())
	home := pubsubtest.Start(s)
	proxy := pubsubtest.NewProxy(s, home)
	s.address, s.requests = proxy.Address, proxy.Total
	common := []string{"RMS_CLOUD_TASKS_PROVIDER=gcp", "RMS_CLOUD_TASKS_PROJECT_ID=" + s.project}
	s.env = append([]string{"PUBSUB_EMULATOR_HOST=" + proxy.Address}, common...)
	s.direct = append([]string{"PUBSUB_EMULATOR_HOST=" + home}, common...)
	return s, nil
}

// fill creates a task queue and its event queue, and loads the tasks of a file.
func (s *server) fill(binary, dir, queue, file string) error {
	for _, args := range [][]string{{"queue", "create"}, {"queue", "create", "--events"}, {"load", "--task-file", file}} {
		if err := s.tool(binary, dir, queue, args...); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes a task queue and its event queue.
func (s *server) drop(binary, dir, queue string) error {
	return errors.Join(s.tool(binary, dir, queue, "queue", "delete", "--yes"), s.tool(binary, dir, queue, "queue", "delete", "--events", "--yes"))
}

func (s *server) tool(binary, dir, queue string, args ...string) error {
	cmd := exec.Command(binary, append(args, "--queue-name", queue)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), s.direct...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctworker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// sdkLoops is the number of goroutines in which a baseline uses a queue. More goroutines are not
// faster with these servers.
const sdkLoops = 4

// sdkLoop calls the function work repeatedly, until count tasks have been processed. The parameter
// loops is the number of goroutines that call work. Each call of work returns the number of tasks
// that it has processed.
func sdkLoop(count, loops int, work func(context.Context) (int, error)) error {
	var all sync.WaitGroup
	var through atomic.Int64
	errs := make([]error, loops)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range loops {
		all.Go(func() {
			for through.Load() < int64(count) && errs[i] == nil {
				n, err := work(ctx)
				if through.Add(int64(n)) >= int64(count) {
					cancel() // ends the receive requests of the other loops
					return
				}
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// sqsLoop is the baseline for tasks from SQS: it receives messages, sends one event per message,
// and deletes the messages.
func sqsLoop(endpoint string, count, loops int) error {
	client := sqstest.NewClient(endpoint)
	urls := [2]string{}
	for i, name := range [2]string{"loop", "loop-events"} {
		out, err := client.CreateQueue(context.Background(), &sqs.CreateQueueInput{QueueName: &name})
		if err != nil {
			return err
		}
		urls[i] = *out.QueueUrl
	}
	return sdkLoop(count, loops, func(ctx context.Context) (int, error) {
		got, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &urls[0], MaxNumberOfMessages: 10, WaitTimeSeconds: 1, VisibilityTimeout: 60,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if ctx.Err() != nil || err != nil || len(got.Messages) == 0 {
			return 0, ignoreEnd(ctx, err)
		}
		events := make([]types.SendMessageBatchRequestEntry, len(got.Messages))
		done := make([]types.DeleteMessageBatchRequestEntry, len(got.Messages))
		for i, m := range got.Messages {
			id := fmt.Sprint(i)
			events[i] = types.SendMessageBatchRequestEntry{Id: &id, MessageBody: awssdk.String(eventText)}
			done[i] = types.DeleteMessageBatchRequestEntry{Id: &id, ReceiptHandle: m.ReceiptHandle}
		}
		if _, err := client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &urls[1], Entries: events}); err != nil {
			return 0, ignoreEnd(ctx, err)
		}
		if _, err := client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &urls[0], Entries: done}); err != nil {
			return 0, ignoreEnd(ctx, err)
		}
		return len(events), nil
	})
}

// pubsubLoop is the baseline for tasks from Pub/Sub: it pulls messages, publishes one event per
// message, and acknowledges the messages.
func pubsubLoop(address, project string, count, loops int) (err error) {
	h := &harness{}
	defer h.close()
	defer func() {
		if p, ok := recover().(fatal); ok {
			err = p.error
		}
	}()
	client := pubsubtest.NewClient(h, address, project)
	return sdkLoop(count, loops, func(ctx context.Context) (int, error) {
		got, err := client.Subscriptions.Pull(ctx, &pubsubpb.PullRequest{Subscription: client.Subscription("loop"), MaxMessages: 100})
		messages := got.GetReceivedMessages()
		if err != nil || len(messages) == 0 {
			return 0, ignoreEnd(ctx, err)
		}
		events := make([]*pubsubpb.PubsubMessage, len(messages))
		ids := make([]string, len(messages))
		for i, m := range messages {
			events[i], ids[i] = &pubsubpb.PubsubMessage{Data: []byte(eventText)}, m.GetAckId()
		}
		if _, err := client.Topics.Publish(ctx, &pubsubpb.PublishRequest{Topic: client.Topic("loop-events"), Messages: events}); err != nil {
			return 0, ignoreEnd(ctx, err)
		}
		if err := client.Subscriptions.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: client.Subscription("loop"), AckIds: ids}); err != nil {
			return 0, ignoreEnd(ctx, err)
		}
		return len(messages), nil
	})
}

// ignoreEnd returns err, or nil if ctx has ended or err is io.EOF.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// eventText has the length of a typical task event.
const eventText = `{"timestamp":"2026-11-23T08:48:06.495375","hostname":"lab","event_type":"task_completed","task_id":"task-00000001","elapsed_time":0.000021,"retry":false,"result":true,"attempt":1,"slot":0}`
