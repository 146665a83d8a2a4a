package sqsapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/ctworker/ctworker/internal/retry"
)

// MaxBatchSize is the maximum number of messages per SQS request, for all actions.
const MaxBatchSize = 10

// A QueueFinder contains the method of the SDK's *sqs.Client that QueueURL needs.
type QueueFinder interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
}

// QueueURL returns the URL of a queue. queue is the name of the queue or its URL. reporter logs
// failed requests that are retried; it may be nil.
func QueueURL(ctx context.Context, c QueueFinder, queue string, reporter *retry.Reporter) (string, error) {
	if strings.Contains(queue, "://") {
		return queue, nil
	}
	url, err := queueURL(ctx, c, queue, reporter)
	if err != nil {
		if IsNotFound(err) {
			return "", missingQueue(ctx, c, queue, err)
		}
		return "", DescribeError("GetQueueUrl", queue, err)
	}
	return url, nil
}

func queueURL(ctx context.Context, c QueueFinder, queue string, reporter *retry.Reporter) (string, error) {
	return atStart(ctx, "GetQueueUrl", reporter, func(ctx context.Context) (string, error) {
		out, err := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &queue})
		if err != nil {
			return "", err
		}
		return usableURL(out.QueueUrl)
	})
}

// usableURL returns the URL in a response of SQS, or errIncompleteResponse if the URL is missing or
// malformed.
func usableURL(text *string) (string, error) {
	if u, err := url.Parse(aws.ToString(text)); err != nil || u.Host == "" {
		return "", fmt.Errorf("%w: invalid queue URL %q", errIncompleteResponse, aws.ToString(text))
	}
	return *text, nil
}

// EntryID returns the id of the ith entry of a batch.
func EntryID(i int) *string { return aws.String(strconv.Itoa(i)) }

// errIncompleteResponse is returned if a response lacks a required value or the result of a batch
// entry.
var errIncompleteResponse = errors.New("incomplete response: the SQS response lacks a required value")

// RepeatError returns a slice that contains err n times. Use it if the request of a batch with n
// entries failed.
func RepeatError(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// BatchErrors returns n errors, one per entry of a batch. An error is nil if the entry succeeded.
// The ids of the entries must come from EntryID. The error of an entry without a result in the
// response is errIncompleteResponse. Results with unknown ids are ignored. An entry that the response
// lists both as done and as failed is treated as failed.
func BatchErrors[Done any](n int, done []Done, id func(Done) *string, failed []types.BatchResultErrorEntry) []error {
	errs := RepeatError(n, errIncompleteResponse)
	set := func(id *string, err error) {
		if i, fault := strconv.Atoi(aws.ToString(id)); fault == nil && i >= 0 && i < n {
			errs[i] = err
		}
	}
	for _, d := range done {
		set(id(d), nil)
	}
	for _, f := range failed {
		fault := smithy.FaultServer
		if f.SenderFault {
			fault = smithy.FaultClient
		}
		set(f.Id, &smithy.GenericAPIError{Code: aws.ToString(f.Code), Message: aws.ToString(f.Message), Fault: fault})
	}
	return errs
}
