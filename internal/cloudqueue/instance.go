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
	i := spotwatch.Identify(ctx, here)
	cfg.InstanceID, cfg.Zone = i.ID, i.Zone
	if cfg.InstanceType == "" {
		cfg.InstanceType = i.Type
	}
}

// QueryInstance requests the instance id and zone from the provider's metadata service. Unknown
// values are "". If there is no metadata service, QueryInstance returns after 2 seconds.
func QueryInstance(ctx context.Context, provider string) (id, zone string) {
	var w spotwatch.Watcher = spotwatch.AWS{}
	switch {
	case provider == config.GCP:
		w = spotwatch.GCP{}
	case strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true"):
		return "", ""
	}
	i := spotwatch.Identify(ctx, w)
	return i.ID, i.Zone
}
