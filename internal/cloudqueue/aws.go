package cloudqueue

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/pipeline"
	sqssink "github.com/ctworker/ctworker/sinks/sqs"
	sqssource "github.com/ctworker/ctworker/sources/sqs"
)

// ErrNotFound is returned if a queue does not exist.
var ErrNotFound = errors.New("the queue does not exist")

// An event, a settlement or a task waits this long for others, because one request can send up to
// ten of them. Events and settlements can wait longer than tasks that are loaded, because their wait
// delays only the end of a task.
const (
	eventLinger  = 100 * time.Millisecond
	settleLinger = 30 * time.Millisecond
	loadLinger   = 5 * time.Millisecond
)

// awsProvider implements Provider for AWS SQS.
type awsProvider struct {
	cfg           *config.Config
	reporter      *retry.Reporter
	tasks, events *sqsQueue
}

// sqsName matches the names that SQS accepts, without FIFOSuffix.
var sqsName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

const maxNameLength = 80 // of SQS, including FIFOSuffix

func newAWS(cfg *config.Config, reporter *retry.Reporter) (*awsProvider, error) {
	name, ending := strings.TrimSuffix(cfg.QueueName, sqsapi.FIFOSuffix), ""
	if cfg.ExactlyOnceQueue || name != cfg.QueueName {
		ending = sqsapi.FIFOSuffix
	}
	const events = "-events"
	if !sqsName.MatchString(name) || len(name)+len(events)+len(ending) > maxNameLength {
		return nil, fmt.Errorf("%s %q: invalid SQS queue name: use at most %d letters, digits, - and _", nameSetting(cfg), cfg.QueueName, maxNameLength-len(events)-len(sqsapi.FIFOSuffix))
	}
	queue := func(name string) *sqsQueue {
		return &sqsQueue{name: name + ending, region: cfg.Region, linger: loadLinger, reporter: reporter}
	}
	return &awsProvider{cfg: cfg, reporter: reporter, tasks: queue(name), events: queue(name + events)}, nil
}

func (p *awsProvider) Tasks() Queue  { return p.tasks }
func (p *awsProvider) Events() Queue { return p.events }

// holdMargin is subtracted from the 12 hours for which SQS lets a worker hold a message. The 12 hours
// start when SQS sends the message, which is before the worker receives it.
const holdMargin = 30 * time.Second

func (p *awsProvider) ValidateLease(d, lease time.Duration) error {
	if lease > sqsapi.MaxHold {
		return fmt.Errorf("--lease %v: the maximum of SQS is 43200 (12 hours)", lease.Seconds())
	}
	if p.cfg.RetryDelay > sqsapi.MaxHold {
		return fmt.Errorf("--retry-delay %v: the maximum of SQS is 43200 (12 hours)", p.cfg.RetryDelay.Seconds())
	}
	if maxDuration := sqsapi.MaxHold - holdMargin; d > maxDuration {
		return fmt.Errorf("--max-runtime %v: SQS delivers a task to another worker 12 hours after this worker received it; use %v or less, or split the tasks into smaller ones",
			p.cfg.MaxRuntime.Seconds(), (p.cfg.MaxRuntime - (d - maxDuration)).Seconds())
	}
	return nil
}

func (p *awsProvider) OpenSource(ctx context.Context, opts SourceOptions) (pipeline.Source, error) {
	s, err := sqssource.Open(retry.WithReporter(ctx, p.reporter), sqssource.Options{
		Queue: p.tasks.name, Region: p.cfg.Region, Lease: p.cfg.Lease, Linger: settleLinger,
		OnMalformed: opts.OnMalformed, Log: opts.Log,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (p *awsProvider) OpenSink(ctx context.Context) (pipeline.Sink, error) {
	s, err := sqssink.Open(retry.WithReporter(ctx, p.reporter), sqssink.Options{Queue: p.events.name, Region: p.cfg.Region, Linger: eventLinger})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// sqsQueue implements Queue for SQS.
type sqsQueue struct {
	name, region string
	linger       time.Duration
	reporter     *retry.Reporter
	client       sqsapi.Client // nil until connect has succeeded
}

func (q *sqsQueue) Name() string { return q.name }

func (q *sqsQueue) connect(ctx context.Context) error {
	if q.client != nil {
		return nil
	}
	c, err := sqsapi.NewClient(ctx, q.region)
	if err == nil {
		q.client = c
	}
	return err
}

func (q *sqsQueue) find(ctx context.Context) (*sqsapi.Queue, error) {
	if err := q.connect(ctx); err != nil {
		return nil, err
	}
	found, err := sqsapi.FindQueue(ctx, q.client, q.name, q.reporter)
	return found, notFound(err)
}

// notFound returns err. If err means that a queue does not exist, the result also wraps
// ErrNotFound.
func notFound(err error) error {
	if err != nil && sqsapi.IsNotFound(err) {
		return notFoundError{err}
	}
	return err
}

type notFoundError struct{ error }

func (e notFoundError) Unwrap() []error { return []error{ErrNotFound, e.error} }

func (q *sqsQueue) Status(ctx context.Context) (Status, error) {
	found, err := q.find(ctx)
	var other *sqsapi.OtherKindError
	switch {
	case errors.As(err, &other):
		return Status{Problem: other.Error()}, err
	case err != nil:
		return Status{}, err
	}
	a, err := found.Attributes(ctx)
	if err != nil {
		return Status{}, notFound(err)
	}
	return Status{
		Visible: a.Visible, InFlight: a.InFlight, Delayed: a.Delayed, Retention: a.Retention,
		ExactlyOnce: found.IsFIFO(), DeadLetterQueue: a.DeadLetterQueue, MaxReceives: a.MaxReceives,
	}, nil
}

func (q *sqsQueue) Create(ctx context.Context) (bool, error) {
	if err := q.connect(ctx); err != nil {
		return false, err
	}
	_, created, err := sqsapi.CreateQueue(ctx, q.client, q.name, q.reporter)
	return created, err
}

func (q *sqsQueue) Purge(ctx context.Context) error {
	found, err := q.find(ctx)
	if err != nil {
		return err
	}
	return notFound(found.Purge(ctx))
}

func (q *sqsQueue) Delete(ctx context.Context) error {
	found, err := q.find(ctx)
	if err != nil {
		return err
	}
	return notFound(found.Delete(ctx))
}

func (q *sqsQueue) OpenReader(ctx context.Context, log zerolog.Logger) (pipeline.Source, error) {
	s, err := sqssource.Open(retry.WithReporter(ctx, q.reporter), sqssource.Options{Queue: q.name, Region: q.region, Raw: true, Linger: settleLinger, Log: log})
	if err != nil {
		return nil, notFound(err)
	}
	return s, nil
}

func (q *sqsQueue) OpenLoader(ctx context.Context) (Loader, error) {
	found, err := q.find(ctx)
	if err != nil {
		return nil, err
	}
	limit, err := found.Limit(ctx)
	if err != nil {
		return nil, notFound(err)
	}
	return sqsLoader{sqsapi.NewSender(found, limit, q.linger)}, nil
}

// sqsLoader implements Loader. It sends a task as the body and the attribute TaskId, like the other
// programs that load these queues.
type sqsLoader struct{ *sqsapi.Sender }

func (l sqsLoader) Prepare(task pipeline.Task) (func(context.Context) error, error) {
	m := sqsapi.Message{Body: sqsapi.Text(task.AppendJSON(nil)), TaskID: task.ID, Group: task.ID, Key: task.ID}
	if err := l.Check(m); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return l.Send(ctx, m) }, nil
}
