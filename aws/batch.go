package aws

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

	"github.com/ctworker/ctworker/pipeline/again"
)

// BatchMost is the most that SQS takes and gives at once.
const BatchMost = 10

// A QueueFinder is what QueueURL needs of the SDK's *sqs.Client.
type QueueFinder interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
}

// QueueURL returns the address of a queue that is given by its name, or by its address.
// Reporter may be nil.
func QueueURL(ctx context.Context, c QueueFinder, queue string, reporter *again.Reporter) (string, error) {
	if strings.Contains(queue, "://") {
		return queue, nil
	}
	url, err := queueURL(ctx, c, queue, reporter)
	if err != nil {
		if IsNoQueue(err) {
			return "", missingQueue(ctx, c, queue, err)
		}
		return "", Explain("GetQueueUrl", queue, err)
	}
	return url, nil
}

func queueURL(ctx context.Context, c QueueFinder, queue string, reporter *again.Reporter) (string, error) {
	return atStart(ctx, "GetQueueUrl", reporter, func(ctx context.Context) (string, error) {
		out, err := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &queue})
		if err != nil {
			return "", err
		}
		return usableURL(out.QueueUrl)
	})
}

// usableURL is an address that SQS has returned.
func usableURL(text *string) (string, error) {
	if u, err := url.Parse(aws.ToString(text)); err != nil || u.Host == "" {
		return "", fmt.Errorf("%w: the address of a queue is %q", errNoResult, aws.ToString(text))
	}
	return *text, nil
}

// EntryID is the id of the ith entry of a batch.
func EntryID(i int) *string { return aws.String(strconv.Itoa(i)) }

// errNoResult is the error of an entry that has no result in a batch's answer, and of an
// answer that lacks what has to be in it.
var errNoResult = errors.New("damaged answer: there is no result for this entry in the SQS response")

// Failed returns the error of each of n entries of a batch that has failed as a whole.
func Failed(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// Answers returns the result of each of n entries of a batch, whose ids are EntryID's. What
// the answer leaves out has not been done, as far as is known. Ids that were not sent are
// ignored, and an entry that is reported as done and as failed has failed.
func Answers[Done any](n int, done []Done, id func(Done) *string, failed []types.BatchResultErrorEntry) []error {
	errs := Failed(n, errNoResult)
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
