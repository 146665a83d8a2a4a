package spotwatch

import (
	"context"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// Identity contains what the provider's metadata service reports about a machine. A field is empty
// if the service does not report it.
type Identity struct {
	// ID is the instance ID (AWS) or the name (Google Cloud, Azure) of the machine.
	ID string
	// Zone is the availability zone, and Type the machine type, for example m5.large.
	Zone, Type string
}

// identifyTimeout is the time limit of Identify and IsSpot. It is short because outside of the
// provider's network, requests get no response.
const identifyTimeout = 2 * time.Second

// Identify gets the identity of this machine from the metadata service of w's provider. It
// blocks for at most 2 seconds.
func Identify(ctx context.Context, w Watcher) (i Identity) {
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	get := metadataClient(ctx, w)
	if get == nil {
		return i
	}
	switch w.(type) {
	case AWS: // AWS: Instance metadata categories
		if i.ID = get("instance-id"); i.ID != "" {
			i.Zone, i.Type = get("placement/availability-zone"), get("instance-type")
		}
	case GCP: // Google: Compute Engine, predefined metadata keys
		if i.ID = get("name"); i.ID != "" {
			i.Zone, i.Type = lastPathElement(get("zone")), lastPathElement(get("machine-type"))
		}
	case Azure: // Microsoft: Azure Instance Metadata Service, compute
		if i.ID = get("name"); i.ID != "" {
			i.Zone, i.Type = strings.Trim(get("location")+"-"+get("zone"), "-"), get("vmSize")
		}
	}
	return i
}

// IsSpot reports whether the metadata service of w's provider describes this machine as a spot
// or preemptible machine. It blocks for at most 2 seconds.
func IsSpot(ctx context.Context, w Watcher) bool {
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	get := metadataClient(ctx, w)
	switch w.(type) {
	case AWS:
		return get("instance-life-cycle") == "spot"
	case GCP:
		return get("scheduling/preemptible") == "TRUE"
	case Azure:
		return get("priority") == "Spot"
	}
	return false
}

// metadataClient returns a function that requests a value from the metadata service, and returns ""
// if the request fails. metadataClient returns nil if w is not an AWS, GCP or Azure.
func metadataClient(ctx context.Context, w Watcher) func(path string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	switch w := w.(type) {
	case AWS:
		client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, Endpoint: w.endpoint(), Retryer: aws.NopRetryer{}, HTTPClient: client})
		return func(path string) string {
			text, _ := awsGet(ctx, client, path) // "" after an error
			return strings.TrimSpace(text)
		}
	case GCP:
		return func(path string) string {
			text, _, _ := w.get(ctx, client, w.host(), path, "", false)
			return strings.TrimSpace(text)
		}
	case Azure:
		return func(path string) string {
			text, _ := azureGet(ctx, client, w.endpoint()+"/metadata/instance/compute/"+path+"?api-version=2021-02-01&format=text")
			return text
		}
	}
	return nil
}

// lastPathElement returns the last element of a path, or "" if the path is empty.
func lastPathElement(text string) string {
	if text == "" {
		return ""
	}
	return path.Base(text)
}
