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

// FIFO is what the name of a queue ends with that delivers each message exactly
// once, and in order within a group.
const FIFOSuffix = ".fifo"

// Retention is how long a queue that is created here keeps what nobody reads: the
// longest that SQS knows.
const Retention = 14 * 24 * time.Hour

// MaxMessageBytes is how large a message, and all of a batch, may be in any queue; a queue
// may have a lower limit for a message (AWS: Amazon SQS message quotas).
const MaxMessageBytes = 1 << 20

// defaultMaxMessageBytes is the limit that every queue had before there was MaxMessageBytes, for one
// that does not say.
const defaultMaxMessageBytes = 256 << 10

// A Client is what a Queue needs of the SDK's *sqs.Client.
type Client interface {
	QueueFinder
	CreateQueue(context.Context, *sqs.CreateQueueInput, ...func(*sqs.Options)) (*sqs.CreateQueueOutput, error)
	DeleteQueue(context.Context, *sqs.DeleteQueueInput, ...func(*sqs.Options)) (*sqs.DeleteQueueOutput, error)
	PurgeQueue(context.Context, *sqs.PurgeQueueInput, ...func(*sqs.Options)) (*sqs.PurgeQueueOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

// NewClient returns a client with the settings of Config, which have to have a region.
func NewClient(ctx context.Context, region string) (*sqs.Client, error) {
	cfg, err := Config(ctx, region)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, errors.New("sqs: no region: give --region, or set AWS_REGION, or one in the profile of AWS_PROFILE")
	}
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		o.Retryer = aws.NopRetryer{} // Again repeats requests and logs it
		o.HTTPClient = Redirected(o.HTTPClient)
	}), nil
}

// A Queue is a queue of SQS that is there.
type Queue struct {
	// Name is the name, or the address, by which it was asked for.
	Name string
	// URL is its address.
	URL string

	client   Client
	reporter *retry.Reporter
}

// FindQueue looks up a queue by name. If the queue does not exist, it returns an error for
// which IsNotFound is true. reporter logs requests that fail and are repeated, also those of
// the returned Queue; it may be nil.
func FindQueue(ctx context.Context, c Client, name string, reporter *retry.Reporter) (*Queue, error) {
	url, err := QueueURL(ctx, c, name, reporter)
	if err != nil {
		return nil, err
	}
	return &Queue{Name: name, URL: url, client: c, reporter: reporter}, nil
}

// CreateQueue creates a queue with the maximum retention. A name that ends in FIFO creates
// a FIFO queue, which delivers exactly once. An existing queue is returned unchanged. If a
// queue of the same name and of the other kind exists, CreateQueue returns an OtherKindError,
// because other programs of the job use that queue.
func CreateQueue(ctx context.Context, c Client, name string, reporter *retry.Reporter) (q *Queue, created bool, err error) {
	var other *OtherKindError
	if q, err = FindQueue(ctx, c, name, reporter); err == nil || !IsNotFound(err) || errors.As(err, &other) {
		return q, false, err
	}
	attributes := map[string]string{string(types.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(int(Seconds(Retention)))}
	if strings.HasSuffix(name, FIFOSuffix) {
		attributes[string(types.QueueAttributeNameFifoQueue)] = "true"
		// Each task is a group of its own, and so the rate need not be the queue's.
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

// IsFIFO reports whether the queue delivers exactly once.
func (q *Queue) IsFIFO() bool { return strings.HasSuffix(q.URL, FIFOSuffix) }

// Delete deletes the queue, with all that is in it.
func (q *Queue) Delete(ctx context.Context) error {
	_, err := atStart(ctx, "DeleteQueue", q.reporter, func(ctx context.Context) (*sqs.DeleteQueueOutput, error) {
		return q.client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &q.URL})
	})
	if err != nil {
		return DescribeError("DeleteQueue", q.Name, err)
	}
	return nil
}

// Purge deletes all that is in the queue. SQS takes up to a minute for it, and takes
// no other purge meanwhile.
func (q *Queue) Purge(ctx context.Context) error {
	_, err := atStart(ctx, "PurgeQueue", q.reporter, func(ctx context.Context) (*sqs.PurgeQueueOutput, error) {
		return q.client.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: &q.URL})
	})
	if err != nil {
		return DescribeError("PurgeQueue", q.Name, err)
	}
	return nil
}

// Attributes are what SQS tells of a queue. The numbers of messages are approximate.
type Attributes struct {
	// Visible messages can be received, InFlight ones have been, and Delayed ones
	// cannot be yet.
	Visible, InFlight, Delayed int64
	// Retention is how long a message is kept; 0 if SQS does not report it.
	Retention time.Duration
	// MaxBytes is how large a message may be.
	MaxBytes int
	// DeadLetterQueue is the name of the queue to which a message goes that has been
	// received MaxReceives times; "" if there is none.
	DeadLetterQueue string
	MaxReceives     int
}

// maxNumber is the maximum accepted for a reported number. That many seconds fit in a
// time.Duration.
const maxNumber = 1 << 32

// Attributes requests the attributes of the queue.
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
			Target string      `json:"deadLetterTargetArn"`
			Most   json.Number `json:"maxReceiveCount"` // a number, or one as a string
		}
		if json.Unmarshal([]byte(policy), &p) == nil {
			count, _ := p.Most.Int64()
			a.DeadLetterQueue, a.MaxReceives = p.Target[strings.LastIndex(p.Target, ":")+1:], int(count)
		}
	}
	return a, nil
}

// Limit is how large a message may be, in bytes. Who may send to a queue need not be
// one who may ask: then it is what every queue takes.
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

// ErrTooLarge says that a message is larger than the queue takes.
var ErrTooLarge = errors.New("it is too large for the queue")

func tooLargeError(size, limit int) error {
	return fmt.Errorf("%w: %d bytes, and the queue takes %d", ErrTooLarge, size, limit)
}
