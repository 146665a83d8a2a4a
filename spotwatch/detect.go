package spotwatch

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// dmi is where Linux tells whose hardware it runs on.
const dmi = "/sys/class/dmi/id/"

// azureTag is the asset tag of the chassis of every machine of Azure.
// Source: Microsoft, Azure, Identify Azure VMs by the chassis asset tag.
const azureTag = "7783-7084-3265-9085-8269-3286-77"

// Here is the Watcher of the provider whose machine this shows itself to be, or nil. It
// asks nobody. A variable that names a metadata service shows it too.
func Here(rebalance bool) Watcher {
	says := func(file, text string) bool {
		b, err := os.ReadFile(dmi + file)
		return err == nil && strings.HasPrefix(string(b), text)
	}
	switch {
	case os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT") != "", says("sys_vendor", "Amazon EC2"):
		return AWS{Rebalance: rebalance}
	case os.Getenv("GCE_METADATA_HOST") != "", says("product_name", "Google"):
		return GCP{}
	case says("chassis_asset_tag", azureTag):
		return Azure{}
	}
	return nil
}

// spotTime bounds the question whether this is a spot machine.
const spotTime = 5 * time.Second

// IsSpot reports whether the metadata of the provider of w says that this is a machine
// that it may take away.
func IsSpot(ctx context.Context, w Watcher) bool {
	ctx, cancel := context.WithTimeout(ctx, spotTime)
	defer cancel()
	switch w := w.(type) {
	case AWS: // AWS: Instance metadata categories, instance-life-cycle
		client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, Endpoint: w.endpoint(), Retryer: aws.NopRetryer{}})
		cycle, err := get(ctx, client, "instance-life-cycle")
		return err == nil && strings.TrimSpace(cycle) == "spot"
	case GCP: // Google: Compute Engine, instance/scheduling/preemptible
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		text, _, err := w.get(ctx, client, w.host(), "scheduling/preemptible", "", false)
		return err == nil && strings.TrimSpace(text) == "TRUE"
	case Azure: // Microsoft: Azure Instance Metadata Service, compute/priority
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		text, err := azureGet(ctx, client, w.endpoint()+"/metadata/instance/compute/priority?api-version=2021-02-01&format=text")
		return err == nil && text == "Spot"
	}
	return false
}
