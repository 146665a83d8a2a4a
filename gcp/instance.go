package gcp

import (
	"context"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
)

// instanceTime bounds the questions to the metadata server; outside of Google Cloud
// nobody answers.
const instanceTime = 2 * time.Second

// productFile is where Linux tells what hardware it runs on.
const productFile = "/sys/class/dmi/id/product_name"

// OnInstance reports whether this machine shows itself to be an instance of Compute
// Engine, or somebody says where its metadata server is. It asks nobody.
func OnInstance() bool {
	if os.Getenv("GCE_METADATA_HOST") != "" {
		return true
	}
	product, err := os.ReadFile(productFile)
	return err == nil && strings.HasPrefix(string(product), "Google")
}

// Instance is the name of this instance of Compute Engine, which is its own within the
// project and the zone, and its zone, each "" where the metadata server does not say
// (Google: Compute Engine, instance/name and instance/zone).
func Instance(ctx context.Context) (name, zone string) {
	ctx, cancel := context.WithTimeout(ctx, instanceTime)
	defer cancel()
	name, err := metadata.InstanceNameWithContext(ctx)
	if err != nil {
		return "", ""
	}
	zone, err = metadata.ZoneWithContext(ctx)
	if err != nil {
		return name, ""
	}
	return name, zone
}
