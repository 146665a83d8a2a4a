package aws

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// instanceTime bounds the search for the metadata service; outside of AWS nobody
// answers.
const instanceTime = 3 * time.Second

// InstanceID is the id of this instance of EC2, or "" where the metadata service does
// not say (AWS: Retrieve instance metadata, instance-id).
func InstanceID(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, instanceTime)
	defer cancel()
	cfg, err := Config(ctx, "")
	if err != nil {
		return ""
	}
	out, err := imds.NewFromConfig(cfg).GetMetadata(ctx, &imds.GetMetadataInput{Path: "instance-id"})
	if err != nil {
		return ""
	}
	defer func() { _ = out.Content.Close() }()
	id, err := io.ReadAll(io.LimitReader(out.Content, 100))
	if err != nil {
		return ""
	}
	return string(id)
}
