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
// blocks for at most 2 seconds. If a request fails, Identify returns an error and the fields
// that it has received before. A later call may return the missing fields.
func Identify(ctx context.Context, w Watcher) (i Identity, err error) {
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	request := metadataClient(ctx, w)
	get := func(path string) (text string) {
		if err == nil { // a service that failed once likely fails again
			text, err = request(path)
		}
		return text
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
	return i, err
}

// IsSpot reports whether the metadata service of w's provider describes this machine as a spot
// or preemptible machine. It blocks for at most 2 seconds. It returns false and an error if
// the request fails.
func IsSpot(ctx context.Context, w Watcher) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	path, spot := "", ""
	switch w.(type) {
	case AWS:
		path, spot = "instance-life-cycle", "spot"
	case GCP:
		path, spot = "scheduling/preemptible", "TRUE"
	case Azure:
		path, spot = "priority", "Spot"
	}
	text, err := metadataClient(ctx, w)(path)
	return spot != "" && text == spot, err
}

// metadataClient returns a function that requests a value from the metadata service. The value is
// "" if the service does not report it, or if the type of w is not AWS, GCP or Azure.
func metadataClient(ctx context.Context, w Watcher) func(path string) (string, error) {
	request := metadataRequest(ctx, w)
	return func(path string) (string, error) {
		text, err := request(path)
		if statusOf(err) == http.StatusNotFound {
			return "", nil
		}
		return strings.TrimSpace(text), err
	}
}

// metadataRequest returns a function that requests a value. The function returns an error unless the
// service responds with status 200.
func metadataRequest(ctx context.Context, w Watcher) func(path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	switch w := w.(type) {
	case AWS:
		client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, Endpoint: w.endpoint(), Retryer: aws.NopRetryer{}, HTTPClient: client})
		return func(path string) (string, error) { return awsGet(ctx, client, path) }
	case GCP:
		return func(path string) (string, error) {
			text, _, err := w.get(ctx, client, w.host(), path, "", false)
			return text, err
		}
	case Azure:
		return func(path string) (string, error) {
			return azureGet(ctx, client, w.endpoint()+"/metadata/instance/compute/"+path+"?api-version=2021-02-01&format=text")
		}
	}
	return func(string) (string, error) { return "", nil }
}

// lastPathElement returns the last element of a path, or "" if the path is empty.
func lastPathElement(text string) string {
	if text == "" {
		return ""
	}
	return path.Base(text)
}
