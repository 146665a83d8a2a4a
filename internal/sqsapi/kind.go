package sqsapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// OtherKindError is returned if a queue does not exist, but a queue of the same name and of the
// other kind (FIFO or standard) exists. IsNotFound returns true for an OtherKindError.
type OtherKindError struct {
	// Queue is the name of the missing queue. Exists is the name of the existing queue.
	Queue, Exists string

	err error
}

// Error names both queues, and explains how to use or replace the existing queue.
func (e *OtherKindError) Error() string {
	if strings.HasSuffix(e.Queue, FIFOSuffix) {
		return fmt.Sprintf("sqs: FIFO queue %q does not exist, but standard queue %q does; to use the standard queue, omit --exactly-once-queue; to get a FIFO queue, which delivers exactly once, delete the standard queue (ctworker queue delete) and create a FIFO queue (ctworker queue create --exactly-once-queue)", e.Queue, e.Exists)
	}
	return fmt.Sprintf("sqs: standard queue %q does not exist, but FIFO queue %q does; to use the FIFO queue, which delivers exactly once, pass --exactly-once-queue; to get a standard queue, delete the FIFO queue (ctworker queue delete --exactly-once-queue) and create a standard queue (ctworker queue create)", e.Queue, e.Exists)
}

// Unwrap returns the error of the request.
func (e *OtherKindError) Unwrap() error { return e.err }

// missingQueue returns the error for a queue that does not exist. It sends one request for the queue
// of the other kind. If that queue exists, missingQueue returns an OtherKindError. If the request
// fails, missingQueue returns an error that wraps err.
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
