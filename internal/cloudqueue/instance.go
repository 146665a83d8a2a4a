package cloudqueue

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/spotwatch"
)

// metadataTimeout is how long the start of a run waits for the metadata service, which normally
// responds within milliseconds.
const metadataTimeout = 100 * time.Millisecond

// FindInstance sets the instance id, the zone and the instance type in cfg from the metadata
// service. It sends no request if the machine does not look like an instance of a provider, because
// a request without a response would delay the start.
func FindInstance(ctx context.Context, cfg *config.Config) {
	here := spotwatch.Detect(false)
	if here == nil || cfg.InstanceID != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	i, err := spotwatch.Identify(ctx, here)
	if err != nil { // a later keep_alive event asks again
		return
	}
	cfg.InstanceID, cfg.Zone = i.ID, i.Zone
	if cfg.InstanceType == "" {
		cfg.InstanceType = i.Type
	}
}

// QueryInstance requests the identity of this machine from the provider's metadata service. It
// returns an error and what it knows if a request fails. If there is no metadata service,
// QueryInstance returns after 2 seconds.
func QueryInstance(ctx context.Context, provider string) (spotwatch.Identity, error) {
	var w spotwatch.Watcher = spotwatch.AWS{}
	switch {
	case provider == config.GCP:
		w = spotwatch.GCP{}
	case strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true"):
		return spotwatch.Identity{}, nil
	}
	return spotwatch.Identify(ctx, w)
}
