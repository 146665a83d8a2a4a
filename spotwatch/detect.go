package spotwatch

import (
	"os"
	"strings"
)

// dmiDir contains the hardware identification on Linux.
const dmiDir = "/sys/class/dmi/id/"

// azureTag is the asset tag of the chassis of all Azure machines. Source: Microsoft, Azure,
// Identify Azure VMs by the chassis asset tag.
const azureTag = "7783-7084-3265-9085-8269-3286-77"

// Detect returns the Watcher of the provider that this machine belongs to, or nil. It uses the
// machine's hardware identification and the environment variables
// AWS_EC2_METADATA_SERVICE_ENDPOINT and GCE_METADATA_HOST, and sends no requests. rebalance
// sets AWS.Rebalance.
func Detect(rebalance bool) Watcher {
	hasPrefix := func(file, text string) bool {
		b, err := os.ReadFile(dmiDir + file)
		return err == nil && strings.HasPrefix(string(b), text)
	}
	switch {
	case os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT") != "", hasPrefix("sys_vendor", "Amazon EC2"):
		return AWS{Rebalance: rebalance}
	case os.Getenv("GCE_METADATA_HOST") != "", hasPrefix("product_name", "Google"):
		return GCP{}
	case hasPrefix("chassis_asset_tag", azureTag):
		return Azure{}
	}
	return nil
}
