package gcp

import (
	"context"
	"time"

	"cloud.google.com/go/compute/metadata"
)

// instanceTime bounds the search for the metadata server; outside of Google Cloud
// nobody answers.
const instanceTime = 3 * time.Second

// InstanceID is the numeric id of this instance of Compute Engine, or "" where the
// metadata server does not say (Google: Compute Engine, instance/id).
func InstanceID(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, instanceTime)
	defer cancel()
	id, err := metadata.InstanceIDWithContext(ctx)
	if err != nil {
		return ""
	}
	return id
}
