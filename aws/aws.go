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

// Config is the settings that every AWS tool takes: the environment (AWS_PROFILE,
// AWS_REGION, AWS_ENDPOINT_URL_SQS …), the shared files, the container or the
// instance. A region that is not empty goes before theirs.
func Config(ctx context.Context, region string) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
		if region != "" {
			o.Region = region
		}
		o.Logger = logging.Nop{} // what matters comes back as an error
		return nil
	})
	if err != nil {
		return aws.Config{}, fmt.Errorf("the AWS settings: %w", err)
	}
	return cfg, nil
}

// RequestTime is how long SQS has for an answer, with the SDK's own second tries,
// before the request is given up and made anew.
const RequestTime = 20 * time.Second

// Again calls do until it succeeds, or fails in a way that another try would only
// repeat, or in one that Is final, or ctx ends. The SDK tries a few times by itself;
// this is for what lasts longer, such as a network that is away.
func Again(ctx context.Context, final error, do func() error) error {
	passing := func(err error) bool { return IsPassing(err) && !IsLost(err) && !errors.Is(err, final) }
	return again.Do(ctx, passing, do)
}

// atStart calls do until it succeeds, or fails in a way that a second try of a few
// seconds does not mend.
func atStart[T any](ctx context.Context, do func() (T, error)) (T, error) {
	return again.AtStart(ctx, func(err error) bool { return IsPassing(err) && !isUnset(err) }, do)
}

// Seconds is d in whole seconds, rounded down.
func Seconds(d time.Duration) int32 { return int32(d / time.Second) }
