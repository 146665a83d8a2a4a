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

	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// depth contains the number of visible messages and the number of messages in flight in a queue.
type depth struct{ Visible, InFlight int }

// cloud is a provider whose server the test has started. Each test case runs with all providers;
// see onEach.
type cloud interface {
	// env returns the variables with which ctworker uses the server at an address.
	env(address string) []string
	// counter returns the proxy that counts requests to the server.
	counter() counter
	// address returns the address to which a proxy that simulates a bad network forwards.
	address() string
	// depth returns the depth of a queue, or zero if the queue does not exist.
	depth(queue string) depth
	// publish creates a queue and sends messages to it.
	publish(queue string, bodies ...string)
	// countAttempts creates a task queue that counts deliveries, and that soon delivers the tasks
	// of a killed worker again.
	countAttempts()
	// redrive creates a task queue that moves a message to the dead-letter queue after n receives.
	redrive(dead string, n int)
	// count returns the number of messages in a queue without consumers. count may remove the messages.
	count(queue string) int
	// watch returns the address of a proxy that reports received tasks.
	watch(received func(task string, attempt int)) string
}

// counter is a proxy that counts requests by action, and refuses actions on request.
type counter interface {
	Total() int
	Count(action string) int
	Table(n int) string
	SetUnavailable(action string, unavailable bool)
}

// provider contains those properties of a provider that tests depend on.
type provider struct {
	name string
	// sendAction and deleteAction are the requests that write events and ack tasks.
	sendAction, deleteAction string
	// fifoSuffix is the suffix of the names of exactly-once queues.
	fifoSuffix string
	// minRedriveCount is the minimum receive count after which a message can be dead-lettered.
	minRedriveCount int
	// maxMessageBytes is the maximum size of a message.
	maxMessageBytes int
	// notFoundText is part of the error for a missing queue. purgePrompt is part of the error for a
	// purge without --yes of a queue with five tasks.
	notFoundText, purgePrompt string
	// minConnections is the minimum number of connections that the test of a bad network needs.
	minConnections int
	// scheme prefixes an address.
	scheme string
	// allowsBinary is set if a message may contain bytes that are not text.
	allowsBinary bool
	start        func(t *testing.T) (c cloud, address string)
}

var providers = []provider{ //nolint:gochecknoglobals // the table of all cases
	{name: "SQS", sendAction: "SendMessageBatch", deleteAction: "DeleteMessageBatch", fifoSuffix: ".fifo", minRedriveCount: 2, scheme: "http://", minConnections: 100, maxMessageBytes: 1 << 20, notFoundText: "does not exist", purgePrompt: "about 5 tasks waiting", start: startSQS},
	{name: "PubSub", sendAction: "Publish", deleteAction: "Acknowledge", minRedriveCount: 5, minConnections: 30, maxMessageBytes: 10_000_000, notFoundText: "does not exist", purgePrompt: "may contain tasks", allowsBinary: true, start: startPubSub},
}

// onEach runs a test case on each provider, in parallel.
func onEach(t *testing.T, run func(t *testing.T, j *job)) {
	t.Parallel()
	for _, p := range providers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			c, address := p.start(t)
			j := &job{t: t, dir: t.TempDir(), provider: p, cloud: c, counter: c.counter(), counterAddress: address}
			j.useAddress(address)
			run(t, j)
		})
	}
}

// sqsCloud has SQS queues on a moto server.
type sqsCloud struct {
	t      *testing.T
	server string // moto's own address
	proxy  *sqstest.Counter
	queues map[string]*sqsapi.Queue
}

func startSQS(t *testing.T) (cloud, string) {
	c := &sqsCloud{t: t, server: sqstest.Start(t), queues: map[string]*sqsapi.Queue{}}
	c.proxy = sqstest.NewCounter(t, c.server)
	return c, c.proxy.URL
}

func (c *sqsCloud) env(address string) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=" + address, "RMS_CLOUD_TASKS_PROVIDER=aws", "RMS_CLOUD_TASKS_JOB_ID=jobs",
	}
}

func (c *sqsCloud) counter() counter { return c.proxy }

// address returns the address of the moto server itself, without the counting proxy. Tests
// with a faulty network use it: moto closes each connection after one request, so if the network
// resets a tenth of the connections, a tenth of the requests fail.
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

func (*sqsCloud) countAttempts() {} // SQS always counts deliveries

func (c *sqsCloud) redrive(dead string, n int) {
	c.t.Helper()
	client, _ := sqstest.Client(c.t, c.server, dead)
	sqstest.CreateWithRedrive(c.t, client, "jobs", dead, n)
}

func (c *sqsCloud) count(queue string) int { return c.depth(queue).Visible }

func (c *sqsCloud) watch(received func(task string, attempt int)) string {
	c.t.Helper()
	target, err := url.Parse(c.proxy.URL)
	if err != nil {
		c.t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // moto derives queue URLs from it
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
			if json.Unmarshal(body, &answer) == nil { // otherwise it is an error response
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
	_ = json.Unmarshal([]byte(body), &task) // the id is "" for a malformed message
	return task.ID
}

// pubsubCloud has the queues of a Google Cloud project on the Pub/Sub emulator.
type pubsubCloud struct {
	t       *testing.T
	project string
	proxy   *pubsubtest.Proxy
	client  *pubsubtest.Client
}

func startPubSub(t *testing.T) (cloud, string) {
	c := &pubsubCloud{t: t, project: "p-" + strings.ToLower(rand.Text())}
	c.proxy = pubsubtest.NewProxy(t, pubsubtest.Start(t))
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

// connectionAge is how long a connection through the simulated network may exist. Without this
// limit, a client would keep its first connection, and the network would reset connections only at
// the start.
const connectionAge = 2 * time.Second

// address returns the address of a second proxy, which forwards to the counting proxy and limits the age of
// connections.
func (c *pubsubCloud) address() string {
	return pubsubtest.NewProxy(c.t, c.proxy.Address, pubsubtest.WithConnectionAge(connectionAge)).Address
}

func (c *pubsubCloud) depth(queue string) depth {
	d := c.proxy.Depth(c.client.Subscription(queue))
	return depth{Visible: d.Visible, InFlight: d.InFlight}
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
		s.AckDeadlineSeconds = 10 // the time after which the tasks of a killed worker are delivered again
		s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: c.client.Topic(dead), MaxDeliveryAttempts: int32(n)}
	})
}

// count pulls the messages, because the proxy does not see messages sent to a dead-letter topic.
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
	return pubsubtest.NewProxy(c.t, c.proxy.Address, pubsubtest.WithOnPull(func(m *pubsubpb.ReceivedMessage) {
		received(idOf(string(m.GetMessage().GetData())), int(m.GetDeliveryAttempt()))
	})).Address
}
