package cloudqueue

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/spotwatch"
)

// startTime is how long a start waits for the metadata service, which is on the machine
// itself: one that does not answer at once holds nothing up.
const metadataTimeout = 100 * time.Millisecond

// FindInstance enters into cfg what this machine is to its provider. It asks only where
// the machine shows itself to be the provider's, so that it takes no time elsewhere.
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

// AskInstance asks the provider's metadata service, which takes seconds to answer where
// there is none. What it does not say is "".
func QueryInstance(ctx context.Context, provider string) (id, zone string) {
	var w spotwatch.Watcher = spotwatch.AWS{}
	switch {
	case provider == config.GCP:
		w = spotwatch.GCP{}
	case strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true"): // nobody is to be asked
		return "", ""
	}
	i := spotwatch.Identify(ctx, w)
	return i.ID, i.Zone
}
