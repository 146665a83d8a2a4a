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

// An Identity is what a machine is to its provider; "" is unknown.
type Identity struct {
	// ID is the instance's id with AWS, and its name with Google and Azure.
	ID string
	// Zone is where it is, and Type what it is, such as m5.large.
	Zone, Type string
}

// identityTime bounds the questions; elsewhere nobody answers.
const identityTime = 2 * time.Second

// Identify asks the metadata service of the provider of w what this machine is.
func Identify(ctx context.Context, w Watcher) (i Identity) {
	ctx, cancel := context.WithTimeout(ctx, identityTime)
	defer cancel()
	ask := metadataClient(ctx, w)
	if ask == nil {
		return i
	}
	switch w.(type) {
	case AWS: // AWS: Instance metadata categories
		if i.ID = ask("instance-id"); i.ID != "" {
			i.Zone, i.Type = ask("placement/availability-zone"), ask("instance-type")
		}
	case GCP: // Google: Compute Engine, predefined metadata keys
		if i.ID = ask("name"); i.ID != "" {
			i.Zone, i.Type = base(ask("zone")), base(ask("machine-type"))
		}
	case Azure: // Microsoft: Azure Instance Metadata Service, compute
		if i.ID = ask("name"); i.ID != "" {
			i.Zone, i.Type = strings.Trim(ask("location")+"-"+ask("zone"), "-"), ask("vmSize")
		}
	}
	return i
}

// IsSpot reports whether the metadata of the provider of w says that this is a machine
// that it may take away.
func IsSpot(ctx context.Context, w Watcher) bool {
	ctx, cancel := context.WithTimeout(ctx, identityTime)
	defer cancel()
	ask := metadataClient(ctx, w)
	switch w.(type) {
	case AWS:
		return ask("instance-life-cycle") == "spot"
	case GCP:
		return ask("scheduling/preemptible") == "TRUE"
	case Azure:
		return ask("priority") == "Spot"
	}
	return false
}

// questions is what answers with a value of the instance's, or "".
func metadataClient(ctx context.Context, w Watcher) func(path string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	switch w := w.(type) {
	case AWS:
		client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, Endpoint: w.endpoint(), Retryer: aws.NopRetryer{}, HTTPClient: client})
		return func(path string) string {
			text, _ := get(ctx, client, path) // none is as good as no answer
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

// base is the last part of a path, or "" of none.
func base(text string) string {
	if text == "" {
		return ""
	}
	return path.Base(text)
}
