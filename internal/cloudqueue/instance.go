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

// FindInstance requests the instance id, the zone and the instance type from the metadata service,
// and sets them in cfg. If spotwatch.Detect does not find a provider, FindInstance sends no request,
// because a request without a response would delay the start.
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

// QueryInstance requests the identity of this machine from the provider's metadata service. If a
// request fails, QueryInstance returns an error and the fields that it has received before. If there
// is no metadata service, QueryInstance returns after 2 seconds.
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
