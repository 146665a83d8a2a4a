package sqsapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// An OtherKindError is returned if a queue does not exist, but a queue of the same name and
// of the other kind (FIFO or standard) does. IsNotFound is true for it.
type OtherKindError struct {
	// Queue is the name of the missing queue, and Exists that of the existing one.
	Queue, Exists string

	err error
}

// Error describes the difference and what to do.
func (e *OtherKindError) Error() string {
	if strings.HasSuffix(e.Queue, FIFOSuffix) {
		return fmt.Sprintf("sqs: queue %q does not exist, but the standard queue %q does, which does not deliver exactly once: leave out --exactly-once-queue to use it, or delete it (ctworker queue delete) and create a FIFO queue (ctworker queue create --exactly-once-queue)", e.Queue, e.Exists)
	}
	return fmt.Sprintf("sqs: queue %q does not exist, but the FIFO queue %q does, which delivers exactly once: pass --exactly-once-queue to use it, or delete it (ctworker queue delete --exactly-once-queue) and create a standard queue (ctworker queue create)", e.Queue, e.Exists)
}

// Unwrap returns the error of the request.
func (e *OtherKindError) Unwrap() error { return e.err }

// missingQueue returns the error for a queue that does not exist. It looks up the queue of
// the other kind once, and ignores an error of that lookup.
func missingQueue(ctx context.Context, c QueueFinder, queue string, err error) error {
	other := queue + FIFOSuffix
	if name, fifo := strings.CutSuffix(queue, FIFOSuffix); fifo {
		other = name
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	if _, fault := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &other}); fault == nil {
		return &OtherKindError{Queue: queue, Exists: other, err: err}
	}
	return DescribeError("GetQueueUrl", queue, err)
}
