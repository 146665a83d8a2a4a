package aws

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// BatchMost is the most that SQS takes and gives at once.
const BatchMost = 10

// A QueueFinder is what QueueURL needs of the SDK's *sqs.Client.
type QueueFinder interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
}

// QueueURL is the address of a queue that is given by its name, or by its address.
func QueueURL(ctx context.Context, c QueueFinder, queue string) (string, error) {
	if strings.Contains(queue, "://") {
		return queue, nil
	}
	out, err := atStart(ctx, func() (*sqs.GetQueueUrlOutput, error) {
		return c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &queue})
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.QueueUrl), nil
}

// EntryID is the id of the ith entry of a batch.
func EntryID(i int) *string { return aws.String(strconv.Itoa(i)) }

// errNoAnswer is of an entry that a batch's answer says nothing of.
var errNoAnswer = errors.New("SQS has said nothing of it")

// Failed is what came of each of n entries of a batch that has failed as a whole.
func Failed(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// Answers is what came of each of n entries of a batch, whose ids are EntryID's. What
// the answer leaves out has not been done.
func Answers[Done any](n int, done []Done, id func(Done) *string, failed []types.BatchResultErrorEntry) []error {
	errs := Failed(n, errNoAnswer)
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
