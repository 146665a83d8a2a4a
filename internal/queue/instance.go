package queue

import (
	"context"

	"github.com/ctworker/ctworker/aws"
	"github.com/ctworker/ctworker/gcp"
	"github.com/ctworker/ctworker/internal/config"
)

// FindInstance enters into cfg what this machine is to its provider. It asks only where
// the machine shows itself to be the provider's, so that it takes no time elsewhere.
func FindInstance(ctx context.Context, cfg *config.Config) {
	switch {
	case cfg.InstanceID != "":
	case cfg.Provider == config.AWS && aws.OnInstance(), cfg.Provider == config.GCP && gcp.OnInstance():
		cfg.InstanceID, cfg.Zone = AskInstance(ctx, cfg.Provider)
	}
}

// AskInstance asks the provider's metadata service, which takes seconds to answer where
// there is none. What it does not say is "".
func AskInstance(ctx context.Context, provider string) (id, zone string) {
	switch provider {
	case config.AWS:
		return aws.Instance(ctx)
	case config.GCP:
		return gcp.Instance(ctx)
	}
	return "", ""
}
