package sqsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/retry"
)

// FIFOSuffix is the suffix of the names of FIFO queues. A FIFO queue delivers each message exactly
// once, and the messages of a group in order.
const FIFOSuffix = ".fifo"

// MaxHold is the maximum time from the receipt of a message to the end of its visibility timeout,
// even if the timeout is extended (AWS: Amazon SQS visibility timeout).
const MaxHold = 12 * time.Hour

// Retention is the message retention period of queues that CreateQueue creates. It is the
// maximum of SQS.
const Retention = 14 * 24 * time.Hour

// MaxMessageBytes is the maximum size in bytes of a message, and also of all messages in a batch
// together. A queue may have a lower limit for a message (AWS: Amazon SQS message quotas).
const MaxMessageBytes = 1 << 20

// defaultMaxMessageBytes is the assumed maximum size of a message if the queue does not report its
// maximum. It was the maximum of all queues before SQS raised the maximum to MaxMessageBytes.
const defaultMaxMessageBytes = 256 << 10

// Client contains the methods of the SDK's *sqs.Client that a Queue needs.
type Client interface {
	QueueFinder
	CreateQueue(context.Context, *sqs.CreateQueueInput, ...func(*sqs.Options)) (*sqs.CreateQueueOutput, error)
	DeleteQueue(context.Context, *sqs.DeleteQueueInput, ...func(*sqs.Options)) (*sqs.DeleteQueueOutput, error)
	PurgeQueue(context.Context, *sqs.PurgeQueueInput, ...func(*sqs.Options)) (*sqs.PurgeQueueOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

// NewClient returns a client with the configuration of Config. It returns an error if no
// region is configured. The client does not retry requests.
func NewClient(ctx context.Context, region string) (*sqs.Client, error) {
	cfg, err := Config(ctx, region)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("sqs: no AWS region is configured: pass --region, set AWS_REGION, or set a region in the profile of AWS_PROFILE")
	}
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		o.Retryer = aws.NopRetryer{} // Retry and atStart retry failed requests, and log the retries
		o.HTTPClient = Redirected(o.HTTPClient)
	}), nil
}

// A Queue is an existing SQS queue.
type Queue struct {
	// Name is the name or URL that was passed to FindQueue or CreateQueue.
	Name string
	// URL is the URL of the queue.
	URL string

	client   Client
	reporter *retry.Reporter
}

// FindQueue looks up a queue by name. If the queue does not exist, FindQueue returns an error for
// which IsNotFound is true. reporter logs the failed requests that FindQueue and the returned Queue
// retry. It may be nil.
func FindQueue(ctx context.Context, c Client, name string, reporter *retry.Reporter) (*Queue, error) {
	url, err := QueueURL(ctx, c, name, reporter)
	if err != nil {
		return nil, err
	}
	return &Queue{Name: name, URL: url, client: c, reporter: reporter}, nil
}

// CreateQueue creates a queue with the maximum retention. If name ends in FIFOSuffix, the queue is
// a FIFO queue. If the queue already exists, CreateQueue returns it unchanged. If a queue of the
// same name and of the other kind exists, CreateQueue returns an OtherKindError, because other
// programs of the job use that queue.
func CreateQueue(ctx context.Context, c Client, name string, reporter *retry.Reporter) (q *Queue, created bool, err error) {
	var other *OtherKindError
	if q, err = FindQueue(ctx, c, name, reporter); err == nil || !IsNotFound(err) || errors.As(err, &other) {
		return q, false, err
	}
	attributes := map[string]string{string(types.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(int(Seconds(Retention)))}
	if strings.HasSuffix(name, FIFOSuffix) {
		attributes[string(types.QueueAttributeNameFifoQueue)] = "true"
		// Apply the throughput limits to each message group instead of the whole queue. The total
		// limit is then higher, because each task has its own group.
		attributes[string(types.QueueAttributeNameDeduplicationScope)] = "messageGroup"
		attributes[string(types.QueueAttributeNameFifoThroughputLimit)] = "perMessageGroupId"
	}
	url, err := atStart(ctx, "CreateQueue", reporter, func(ctx context.Context) (string, error) {
		out, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			return "", err
		}
		return usableURL(out.QueueUrl)
	})
	if err != nil {
		return nil, false, DescribeError("CreateQueue", name, err)
	}
	return &Queue{Name: name, URL: url, client: c, reporter: reporter}, true, nil
}

// IsFIFO reports whether the queue is a FIFO queue.
func (q *Queue) IsFIFO() bool { return strings.HasSuffix(q.URL, FIFOSuffix) }

// Delete deletes the queue and all its messages.
func (q *Queue) Delete(ctx context.Context) error {
	_, err := atStart(ctx, "DeleteQueue", q.reporter, func(ctx context.Context) (*sqs.DeleteQueueOutput, error) {
		return q.client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &q.URL})
	})
	if err != nil {
		return DescribeError("DeleteQueue", q.Name, err)
	}
	return nil
}

// Purge deletes all messages in the queue. A purge takes SQS up to a minute. During this time, SQS
// rejects further purges.
func (q *Queue) Purge(ctx context.Context) error {
	_, err := atStart(ctx, "PurgeQueue", q.reporter, func(ctx context.Context) (*sqs.PurgeQueueOutput, error) {
		return q.client.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: &q.URL})
	})
	if err != nil {
		return DescribeError("PurgeQueue", q.Name, err)
	}
	return nil
}

// Attributes describes a queue. The numbers of messages are approximate.
type Attributes struct {
	// Visible is the number of messages that can be received now. InFlight is the number of
	// messages that were received and not settled. Delayed is the number of messages that cannot be
	// received yet.
	Visible, InFlight, Delayed int64
	// Retention is how long a message is kept; 0 if SQS does not report it.
	Retention time.Duration
	// MaxBytes is the maximum size of a message; 0 if SQS does not report it.
	MaxBytes int
	// DeadLetterQueue is the name of the queue to which SQS moves a message that was received
	// MaxReceives times. It is "" if there is no such queue.
	DeadLetterQueue string
	MaxReceives     int
}

// maxNumber limits the numbers in a response. A duration of maxNumber seconds fits in a
// time.Duration.
const maxNumber = 1 << 32

// Attributes requests the attributes of the queue from SQS.
func (q *Queue) Attributes(ctx context.Context) (Attributes, error) {
	out, err := atStart(ctx, "GetQueueAttributes", q.reporter, func(ctx context.Context) (*sqs.GetQueueAttributesOutput, error) {
		return q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: &q.URL, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
		})
	})
	if err != nil {
		return Attributes{}, DescribeError("GetQueueAttributes", q.Name, err)
	}
	number := func(name types.QueueAttributeName) int64 {
		n, _ := strconv.ParseInt(out.Attributes[string(name)], 10, 64)
		return min(max(n, 0), maxNumber)
	}
	a := Attributes{
		Visible:   number(types.QueueAttributeNameApproximateNumberOfMessages),
		InFlight:  number(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible),
		Delayed:   number(types.QueueAttributeNameApproximateNumberOfMessagesDelayed),
		Retention: time.Duration(number(types.QueueAttributeNameMessageRetentionPeriod)) * time.Second,
		MaxBytes:  int(number(types.QueueAttributeNameMaximumMessageSize)),
	}
	if policy := out.Attributes[string(types.QueueAttributeNameRedrivePolicy)]; policy != "" {
		var p struct {
			Target      string      `json:"deadLetterTargetArn"`
			MaxReceives json.Number `json:"maxReceiveCount"` // a number or a string
		}
		if json.Unmarshal([]byte(policy), &p) == nil {
			count, _ := p.MaxReceives.Int64()
			a.DeadLetterQueue, a.MaxReceives = p.Target[strings.LastIndex(p.Target, ":")+1:], int(count)
		}
	}
	return a, nil
}

// Limit returns the maximum size of a message in bytes. If the credentials have no permission to
// read the queue's attributes, Limit returns defaultMaxMessageBytes.
func (q *Queue) Limit(ctx context.Context) (int, error) {
	a, err := q.Attributes(ctx)
	switch {
	case err != nil && !isDenied(err):
		return 0, err
	case err != nil || a.MaxBytes <= 0:
		return defaultMaxMessageBytes, nil
	}
	return min(a.MaxBytes, MaxMessageBytes), nil
}

// ErrTooLarge is returned for a message that exceeds the queue's maximum size.
var ErrTooLarge = errors.New("the message is too large for the queue")

func tooLargeError(size, limit int) error {
	return fmt.Errorf("%w: it has %d bytes, the maximum is %d", ErrTooLarge, size, limit)
}
