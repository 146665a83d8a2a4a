package aws

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// instanceTime bounds the questions to the metadata service; outside of AWS nobody
// answers.
const instanceTime = 2 * time.Second

// vendorFile is where Linux tells whose hardware it runs on.
const vendorFile = "/sys/class/dmi/id/sys_vendor"

// OnInstance reports whether this machine shows itself to be an instance of EC2, or
// somebody says where its metadata service is. It asks nobody.
func OnInstance() bool {
	if os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT") != "" {
		return true
	}
	vendor, err := os.ReadFile(vendorFile)
	return err == nil && strings.HasPrefix(string(vendor), "Amazon EC2")
}

// Instance is the id of this instance of EC2 and its availability zone, each "" where
// the metadata service does not say (AWS: Instance metadata categories).
func Instance(ctx context.Context) (id, zone string) {
	ctx, cancel := context.WithTimeout(ctx, instanceTime)
	defer cancel()
	cfg, err := Config(ctx, "")
	if err != nil {
		return "", ""
	}
	client := imds.NewFromConfig(cfg)
	if id = metadata(ctx, client, "instance-id"); id != "" {
		zone = metadata(ctx, client, "placement/availability-zone")
	}
	return id, zone
}

func metadata(ctx context.Context, client *imds.Client, path string) string {
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return ""
	}
	defer func() { _ = out.Content.Close() }()
	text, err := io.ReadAll(io.LimitReader(out.Content, 100))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
