package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"github.com/ctworker/ctworker/pipeline/again"
)

// Config returns the settings that every AWS tool takes: the environment (AWS_PROFILE,
// AWS_REGION, AWS_ENDPOINT_URL_SQS …), the shared files, the container or the
// instance. A region that is not empty goes before theirs.
//
// Clients made from it read the credentials anew once AWS has refused them, return a
// *again.PanicError if the SDK panics on an answer, and read no more than MaxAnswer
// bytes of an answer other than an object's content.
func Config(ctx context.Context, region string) (aws.Config, error) {
	load := func(ctx context.Context) (aws.Config, error) {
		return config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
			if region != "" {
				o.Region = region
			}
			o.Logger = logging.Nop{} // what matters is returned as an error
			o.APIOptions = append(o.APIOptions, addLimit)
			return nil
		})
	}
	cfg, err := load(ctx)
	if err != nil {
		return aws.Config{}, fmt.Errorf("the AWS settings: %w", err)
	}
	renewed := &renewing{load: load, current: cfg.Credentials}
	cfg.Credentials = renewed
	cfg.APIOptions = append(cfg.APIOptions, addGuard(renewed))
	return cfg, nil
}

// RequestTime is how long SQS has for an answer, before the request is given up and made
// anew.
const RequestTime = 20 * time.Second

// Try says how Again repeats a request. The zero value works.
type Try struct {
	// Action is the action of the API, such as "ReceiveMessage".
	Action string
	// Final is an error that is returned at once, besides those that cannot pass.
	Final error
	// Reporter logs what fails and is repeated. May be nil.
	Reporter *again.Reporter
	// SuspectTime is as in again.Options.
	SuspectTime time.Duration
}

// Again calls do until it succeeds, or fails in a way that another try would only
// repeat, or in one that Is Final, or ctx ends. Credentials that are refused and answers
// that are damaged are tried again for minutes.
func Again(ctx context.Context, try Try, do func() error) error {
	return again.Do(ctx, try.options(func(err error) again.Class {
		if IsLost(err) || errors.Is(err, try.Final) {
			return again.Permanent
		}
		return Classify(err)
	}), do)
}

func (t Try) options(classify func(error) again.Class) again.Options {
	return again.Options{Classify: classify, Action: t.Action, Reporter: t.Reporter, SuspectTime: t.SuspectTime}
}

// lateAnswer is after how long a start says that there is no answer.
const lateAnswer = 3 * time.Second

// atStart calls do, with a time limit, until it succeeds, or fails in a way that a second
// try of a few seconds does not mend.
func atStart[T any](ctx context.Context, action string, reporter *again.Reporter, do func(context.Context) (T, error)) (T, error) {
	opts := Try{Action: action, Reporter: reporter}.options(func(err error) again.Class {
		if isUnset(err) {
			return again.Permanent
		}
		return Classify(err)
	})
	opts.Late = lateAnswer
	return again.AtStart(ctx, opts, func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, RequestTime)
		defer cancel()
		return do(ctx)
	})
}

// Seconds is d in whole seconds, rounded down.
func Seconds(d time.Duration) int32 { return int32(d / time.Second) }
