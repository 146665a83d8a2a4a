package cloudqueue

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
	pubsubsink "github.com/ctworker/ctworker/sinks/pubsub"
	pubsubsource "github.com/ctworker/ctworker/sources/pubsub"
)

// gcpProvider implements Provider for Google Pub/Sub.
type gcpProvider struct {
	cfg           *config.Config
	reporter      *retry.Reporter
	tasks, events *pubsubQueue
}

// pubsubName matches the names that Pub/Sub accepts (Google: Pub/Sub, Create a topic).
var pubsubName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._~+%-]*$`)

// regionName matches the names of Google Cloud regions. Other names are rejected, because the
// region becomes part of a host name.
var regionName = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)

func newGCP(cfg *config.Config, reporter *retry.Reporter) (*gcpProvider, error) {
	const events, maxLength = "-events", 255 - len("-events-subscription")
	name := cfg.QueueName
	switch {
	case !pubsubName.MatchString(name) || len(name) > maxLength || len(name) > 3 && name[:4] == "goog":
		return nil, fmt.Errorf("%s %q: invalid Pub/Sub queue name: use at most %d letters, digits and -._~+%%, starting with a letter and not with goog", nameSetting(cfg), name, maxLength)
	case cfg.Region != "" && !regionName.MatchString(cfg.Region):
		return nil, fmt.Errorf("--region %q: not a Google Cloud region: use a region name such as europe-west1", cfg.Region)
	}
	location := pubsubapi.Location{Project: cfg.ProjectID, Region: cfg.Region}
	queue := func(name string) *pubsubQueue {
		return &pubsubQueue{name: name, location: location, exactlyOnce: cfg.ExactlyOnceQueue, reporter: reporter}
	}
	return &gcpProvider{cfg: cfg, reporter: reporter, tasks: queue(name), events: queue(name + events)}, nil
}

func (p *gcpProvider) Tasks() Queue  { return p.tasks }
func (p *gcpProvider) Events() Queue { return p.events }

func (p *gcpProvider) ValidateLease(_, lease time.Duration) error {
	if lease > pubsubapi.MaxAckDeadline {
		return fmt.Errorf("--lease %v: the maximum of Pub/Sub is 600 (10 minutes)", lease.Seconds())
	}
	if p.cfg.RetryDelay > pubsubapi.MaxAckDeadline {
		return fmt.Errorf("--retry-delay %v: the maximum of Pub/Sub is 600 (10 minutes)", p.cfg.RetryDelay.Seconds())
	}
	return nil
}

func (p *gcpProvider) OpenSource(ctx context.Context, opts SourceOptions) (pipeline.Source, error) {
	s, err := pubsubsource.Open(retry.WithReporter(ctx, p.reporter), pubsubsource.Options{
		Queue: p.tasks.name, Project: p.cfg.ProjectID, Region: p.cfg.Region, Lease: p.cfg.Lease, Linger: settleLinger,
		ExactlyOnce: p.cfg.ExactlyOnceQueue, CountAttempts: p.cfg.MaxAttempts > 0,
		OnMalformed: opts.OnMalformed, Log: opts.Log,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *gcpProvider) OpenSink(ctx context.Context) (pipeline.Sink, error) {
	s, err := pubsubsink.Open(retry.WithReporter(ctx, p.reporter), pubsubsink.Options{
		Queue: p.events.name, Project: p.cfg.ProjectID, Region: p.cfg.Region,
		ExactlyOnce: p.cfg.ExactlyOnceQueue, Linger: eventLinger,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// pubsubQueue implements Queue for Pub/Sub.
type pubsubQueue struct {
	name        string
	location    pubsubapi.Location
	exactlyOnce bool // whether Create enables exactly-once delivery
	reporter    *retry.Reporter
}

func (q *pubsubQueue) Name() string { return q.name }

func (q *pubsubQueue) connect(ctx context.Context) (*pubsubapi.Clients, error) {
	clients, err := pubsubapi.NewClients(ctx, q.location)
	if err != nil {
		return nil, err
	}
	clients.Reporter = q.reporter
	return clients, nil
}

// with connects to Pub/Sub, calls do with the queue, and closes the connection. If do fails because
// the queue does not exist, the error wraps ErrNotFound.
func (q *pubsubQueue) with(ctx context.Context, do func(*pubsubapi.Queue) error) error {
	clients, err := q.connect(ctx)
	if err != nil {
		return err
	}
	err = do(clients.Queue(q.name))
	if err != nil && pubsubapi.IsNotFound(err) {
		err = notFoundError{err}
	}
	return errors.Join(err, clients.Close())
}

func (q *pubsubQueue) Status(ctx context.Context) (s Status, err error) {
	err = q.with(ctx, func(queue *pubsubapi.Queue) error {
		info, err := queue.Find(ctx)
		problem := ""
		if errors.Is(err, pubsubapi.ErrUnusable) { // the queue exists, but cannot be used
			problem, err = err.Error(), nil
		}
		s = Status{
			Problem:           problem,
			CountsUnavailable: true, Retention: info.Retention, ExactlyOnce: info.ExactlyOnce,
			DeadLetterQueue: info.DeadLetterTopic, MaxReceives: info.MaxDeliveries,
		}
		return err
	})
	return s, err
}

func (q *pubsubQueue) Create(ctx context.Context) (created bool, err error) {
	err = q.with(ctx, func(queue *pubsubapi.Queue) error {
		created, err = queue.Create(ctx, q.exactlyOnce)
		return err
	})
	return created, err
}

func (q *pubsubQueue) Purge(ctx context.Context) error {
	return q.with(ctx, func(queue *pubsubapi.Queue) error { return queue.Purge(ctx) })
}

func (q *pubsubQueue) Delete(ctx context.Context) error {
	return q.with(ctx, func(queue *pubsubapi.Queue) error { return queue.Delete(ctx) })
}

func (q *pubsubQueue) OpenReader(ctx context.Context, log zerolog.Logger) (pipeline.Source, error) {
	s, err := pubsubsource.Open(retry.WithReporter(ctx, q.reporter), pubsubsource.Options{
		Queue: q.name, Project: q.location.Project, Region: q.location.Region, Raw: true, Linger: settleLinger, Log: log,
	})
	switch {
	case err != nil && pubsubapi.IsNotFound(err):
		return nil, notFoundError{err}
	case err != nil:
		return nil, err
	}
	return s, nil
}

func (q *pubsubQueue) OpenLoader(ctx context.Context) (Loader, error) {
	clients, err := q.connect(ctx)
	if err != nil {
		return nil, err
	}
	queue := clients.Queue(q.name)
	if _, err := queue.Find(ctx); err != nil {
		if pubsubapi.IsNotFound(err) {
			err = notFoundError{err}
		}
		return nil, errors.Join(err, clients.Close())
	}
	return pubsubLoader{queue.NewSender(loadLinger), clients}, nil
}

// pubsubLoader implements Loader. It sends a task as the body of a message without attributes, like
// the other programs that load these queues.
type pubsubLoader struct {
	*pubsubapi.Sender
	clients *pubsubapi.Clients
}

func (l pubsubLoader) Prepare(task pipeline.Task) (func(context.Context) error, error) {
	body := string(task.AppendJSON(nil))
	if err := l.Check(pubsubapi.Message{Data: body}); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return l.Send(ctx, pubsubapi.Message{Data: body}) }, nil
}

func (l pubsubLoader) Close(ctx context.Context) {
	l.Sender.Close(ctx)
	_ = l.clients.Close() // all requests have ended, so an error has no effect
}
