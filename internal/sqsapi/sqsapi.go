package sqsapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"github.com/ctworker/ctworker/internal/retry"
)

// Config loads the default AWS configuration: the environment (AWS_PROFILE, AWS_REGION,
// AWS_ENDPOINT_URL_SQS …), the shared files, and the role of the container or the instance.
// A non-empty region overrides the configured region.
//
// A client with the returned configuration loads the credentials again after AWS has rejected
// them. If the SDK panics, the client returns a *pipeline.PanicError. It reads at most
// MaxResponseBytes bytes of a response, except for the content of an S3 object.
func Config(ctx context.Context, region string) (aws.Config, error) {
	load := func(ctx context.Context) (aws.Config, error) {
		return config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
			if region != "" {
				o.Region = region
			}
			o.Logger = logging.Nop{} // the SDK also returns its problems as errors
			o.APIOptions = append(o.APIOptions, addLimit)
			return nil
		})
	}
	cfg, err := load(ctx)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w", err)
	}
	renewed := &credentialsReloader{load: load, current: cfg.Credentials}
	cfg.Credentials = renewed
	cfg.APIOptions = append(cfg.APIOptions, addGuard(renewed))
	return cfg, nil
}

// RequestTimeout is the time limit of one request to SQS. A request that exceeds it is
// canceled and sent again.
const RequestTimeout = 20 * time.Second

// RetryOptions configures Retry. The zero value is valid.
type RetryOptions struct {
	// Action is the API action, such as "ReceiveMessage". It names the request in the log.
	Action string
	// Final is an error that is not retried, in addition to the errors that Classify declares
	// permanent.
	Final error
	// Reporter logs failed requests that are retried. It may be nil.
	Reporter *retry.Reporter
	// SuspectTime limits how long suspect errors are retried; see retry.Options.
	SuspectTime time.Duration
}

// Retry calls do until do succeeds or returns an error that is not retried, or until ctx ends.
// Permanent errors and errors that match try.Final are not retried. Rejected credentials and
// invalid responses are retried for try.SuspectTime; see Classify.
func Retry(ctx context.Context, try RetryOptions, do func() error) error {
	return retry.Do(ctx, try.options(func(err error) retry.Class {
		if IsReceiptExpired(err) || errors.Is(err, try.Final) {
			return retry.Permanent
		}
		return Classify(err)
	}), do)
}

func (t RetryOptions) options(classify func(error) retry.Class) retry.Options {
	return retry.Options{Classify: classify, Action: t.Action, Reporter: t.Reporter, SuspectTime: t.SuspectTime}
}

// slowAfter is the time after which atStart logs that a request has no response yet. The request
// continues.
const slowAfter = 3 * time.Second

// atStart calls do with the time limit RequestTimeout per call. It retries transient errors for a
// few seconds; see retry.AtStart.
func atStart[T any](ctx context.Context, action string, reporter *retry.Reporter, do func(context.Context) (T, error)) (T, error) {
	opts := RetryOptions{Action: action, Reporter: reporter}.options(func(err error) retry.Class {
		if isMisconfigured(err) {
			return retry.Permanent
		}
		return Classify(err)
	})
	opts.SlowAfter = slowAfter
	return retry.AtStart(ctx, opts, func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
		defer cancel()
		return do(ctx)
	})
}

// Seconds returns d in whole seconds, rounded down.
func Seconds(d time.Duration) int32 { return int32(d / time.Second) }
