package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ctworker/ctworker/internal/pubsubtest"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/internal/sqstest"
)

// depth is what is in a queue: messages that wait, and such that a worker holds.
type depth struct{ Waiting, Held int }

// A cloud is a provider's queues on a server that the test has started. What is a case
// for one is a case for all of them; see onEach.
type cloud interface {
	// env has ctworker find its queues at an address.
	env(address string) []string
	// counter counts what is asked for at its address.
	counter() counter
	// address is where a bad network leads to.
	address() string
	// depth is what is in a queue, which need not be there.
	depth(queue string) depth
	// publish sends messages to a queue, which it creates.
	publish(queue string, bodies ...string)
	// countAttempts creates the queue of tasks so that its workers know how often a task
	// was handed over, and that it comes again soon after one has died.
	countAttempts()
	// redrive creates the queue of tasks so that what was handed over n times goes to
	// another queue.
	redrive(dead string, n int)
	// count is how many messages are in a queue that nobody receives of. It may take them.
	count(queue string) int
	// watch returns the address of a proxy that tells who receives what.
	watch(received func(task string, attempt int)) string
}

// A counter is a server's proxy that counts.
type counter interface {
	All() int
	Of(action string) int
	Table(n int) string
	Refuse(action string, away bool)
}

// A provider is what tests have to know of one.
type provider struct {
	name string
	// send, remove are the requests that tell of events, and that end a task's message.
	send, remove string
	// fifo is the ending of queues that deliver exactly once.
	fifo string
	// redrives is after how many times at least a message can go to another queue.
	redrives int
	// largest is how many bytes a message can have.
	largest int
	// gone is in the error for a queue that does not exist, and there in the text about a queue
	// with five tasks that is to be purged.
	gone, there string
	// connections are how many there are at least through a bad network.
	connections int
	// scheme begins an address.
	scheme string
	// binary says that a message need not be text.
	binary bool
	start  func(t *testing.T) (c cloud, address string)
}

var providers = []provider{ //nolint:gochecknoglobals // the table that each case goes by
	{name: "SQS", send: "SendMessageBatch", remove: "DeleteMessageBatch", fifo: ".fifo", redrives: 2, scheme: "http://", connections: 100, largest: 1 << 20, gone: "does not exist", there: "about 5 tasks waiting", start: startSQS},
	{name: "PubSub", send: "Publish", remove: "Acknowledge", redrives: 5, connections: 30, largest: 10_000_000, gone: "does not exist", there: "may contain tasks", binary: true, start: startPubSub},
}

// onEach runs a case on each provider.
func onEach(t *testing.T, run func(t *testing.T, j *job)) {
	t.Parallel()
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			c, address := p.start(t)
			j := &job{t: t, dir: t.TempDir(), provider: p, cloud: c, counter: c.counter(), home: address}
			j.via(address)
			run(t, j)
		})
	}
}

// sqsCloud is AWS on moto.
type sqsCloud struct {
	t      *testing.T
	server string // moto's own address
	proxy  *sqstest.Counter
	queues map[string]*sqsapi.Queue
}

func startSQS(t *testing.T) (cloud, string) {
	c := &sqsCloud{t: t, server: sqstest.Start(t), queues: map[string]*sqsapi.Queue{}}
	c.proxy = sqstest.Count(t, c.server)
	return c, c.proxy.URL
}

func (c *sqsCloud) env(address string) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=" + address, "RMS_CLOUD_TASKS_PROVIDER=aws", "RMS_CLOUD_TASKS_JOB_ID=jobs",
	}
}

func (c *sqsCloud) counter() counter { return c.proxy }

// address is the server itself, which ends each connection after one request, so that of
// requests as well as of connections a tenth can be reset.
func (c *sqsCloud) address() string { return strings.TrimPrefix(c.server, "http://") }

func (c *sqsCloud) depth(queue string) depth {
	c.t.Helper()
	q := c.queues[queue]
	if q == nil {
		client := sqstest.NewClient(c.server)
		found, err := sqsapi.FindQueue(c.t.Context(), client, queue, nil)
		if err != nil {
			return depth{}
		}
		q, c.queues[queue] = found, found
	}
	a, err := q.Attributes(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return depth{int(a.Visible), int(a.InFlight)}
}

func (c *sqsCloud) publish(queue string, bodies ...string) {
	c.t.Helper()
	client, url := sqstest.Client(c.t, c.server, queue)
	sqstest.Send(c.t, client, url, bodies...)
}

func (*sqsCloud) countAttempts() {} // they always are

func (c *sqsCloud) redrive(dead string, n int) {
	c.t.Helper()
	client, _ := sqstest.Client(c.t, c.server, dead)
	sqstest.Redrive(c.t, client, "jobs", dead, n)
}

func (c *sqsCloud) count(queue string) int { return c.depth(queue).Waiting }

func (c *sqsCloud) watch(received func(task string, attempt int)) string {
	c.t.Helper()
	target, err := url.Parse(c.proxy.URL)
	if err != nil {
		c.t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the queues' addresses are made of it
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.Header.Get("X-Amz-Target"), ".ReceiveMessage") {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			r.Body = io.NopCloser(bytes.NewReader(body))
			var answer struct {
				Messages []struct {
					Body       string
					Attributes struct {
						Count int `json:"ApproximateReceiveCount,string"`
					}
				}
			}
			if json.Unmarshal(body, &answer) == nil { // else it is an error
				for _, m := range answer.Messages {
					received(idOf(m.Body), m.Attributes.Count)
				}
			}
			return err
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	c.t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
	})
	return proxy.URL
}

func idOf(body string) string {
	var task struct {
		ID string `json:"task_id"`
	}
	_ = json.Unmarshal([]byte(body), &task) // "" is no task
	return task.ID
}

// pubsubCloud is a project of Google's on the emulator.
type pubsubCloud struct {
	t       *testing.T
	project string
	proxy   *pubsubtest.Proxy
	client  *pubsubtest.Client
}

func startPubSub(t *testing.T) (cloud, string) {
	c := &pubsubCloud{t: t, project: "p-" + strings.ToLower(rand.Text())}
	c.proxy = pubsubtest.Before(t, pubsubtest.Start(t))
	c.client = pubsubtest.NewClient(t, c.proxy.Address, c.project)
	return c, c.proxy.Address
}

func (c *pubsubCloud) env(address string) []string {
	return []string{
		"PUBSUB_EMULATOR_HOST=" + address, "RMS_CLOUD_TASKS_PROVIDER=gcp", "RMS_CLOUD_TASKS_PROJECT_ID=" + c.project,
		"RMS_CLOUD_TASKS_JOB_ID=jobs",
	}
}

func (c *pubsubCloud) counter() counter { return c.proxy }

// connectionAge is how long a connection through a bad network lasts: a client keeps one
// for ever, so that one in ten would be reset at the start and none after it.
const connectionAge = 2 * time.Second

// address is a proxy before the one that keeps the ledger.
func (c *pubsubCloud) address() string {
	return pubsubtest.Before(c.t, c.proxy.Address, pubsubtest.WithConnectionAge(connectionAge)).Address
}

func (c *pubsubCloud) depth(queue string) depth {
	return depth(c.proxy.Depth(c.client.Subscription(queue)))
}

func (c *pubsubCloud) publish(queue string, bodies ...string) {
	c.t.Helper()
	c.client.Create(queue, nil)
	c.client.Publish(queue, bodies...)
}

func (c *pubsubCloud) countAttempts() { c.redrive("dead", 100) }

func (c *pubsubCloud) redrive(dead string, n int) {
	c.t.Helper()
	c.client.Create(dead, nil)
	c.client.Create("jobs", func(s *pubsubpb.Subscription) {
		s.AckDeadlineSeconds = 10 // for as long is hidden what a worker that dies has not extended
		s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: c.client.Topic(dead), MaxDeliveryAttempts: int32(n)}
	})
}

// count pulls: what goes to a dead-letter topic does not pass the proxy.
func (c *pubsubCloud) count(queue string) int {
	c.t.Helper()
	n := 0
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
		out, err := c.client.Subscriptions.Pull(ctx, &pubsubpb.PullRequest{Subscription: c.client.Subscription(queue), MaxMessages: 100})
		cancel()
		if err != nil || len(out.GetReceivedMessages()) == 0 {
			return n
		}
		n += len(out.GetReceivedMessages())
	}
}

func (c *pubsubCloud) watch(received func(task string, attempt int)) string {
	c.t.Helper()
	return pubsubtest.Before(c.t, c.proxy.Address, pubsubtest.WithPulled(func(m *pubsubpb.ReceivedMessage) {
		received(idOf(string(m.GetMessage().GetData())), int(m.GetDeliveryAttempt()))
	})).Address
}
