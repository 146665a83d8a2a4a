package aws

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// An OtherKindError says that a queue does not exist, but one of the same name does that
// is of the other kind: FIFO, or ordinary. It IsNoQueue.
type OtherKindError struct {
	// Queue is the queue that was asked for, and Exists the one that is there.
	Queue, Exists string

	err error
}

// Error says what differs and what to do.
func (e *OtherKindError) Error() string {
	if strings.HasSuffix(e.Queue, FIFO) {
		return fmt.Sprintf("sqs: queue %q does not exist, but the ordinary queue %q does, which does not deliver exactly once: leave out --exactly-once-queue to use it, or delete it (ctworker queue delete, without the flag) and create the other (ctworker queue create --exactly-once-queue)", e.Queue, e.Exists)
	}
	return fmt.Sprintf("sqs: queue %q does not exist, but the FIFO queue %q does, which delivers exactly once: give --exactly-once-queue to use it, or delete it (ctworker queue delete --exactly-once-queue) and create the other (ctworker queue create)", e.Queue, e.Exists)
}

// Unwrap returns the answer of SQS.
func (e *OtherKindError) Unwrap() error { return e.err }

// missingQueue is the error of a queue that does not exist. It asks once for the queue of
// the other kind; whoever may not ask learns nothing of it.
func missingQueue(ctx context.Context, c QueueFinder, queue string, err error) error {
	other := queue + FIFO
	if name, fifo := strings.CutSuffix(queue, FIFO); fifo {
		other = name
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTime)
	defer cancel()
	if _, fault := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &other}); fault == nil {
		return &OtherKindError{Queue: queue, Exists: other, err: err}
	}
	return Explain("GetQueueUrl", queue, err)
}
