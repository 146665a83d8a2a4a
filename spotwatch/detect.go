package spotwatch

import (
	"os"
	"strings"
)

// dmi is where Linux tells whose hardware it runs on.
const dmi = "/sys/class/dmi/id/"

// azureTag is the asset tag of the chassis of every machine of Azure.
// Source: Microsoft, Azure, Identify Azure VMs by the chassis asset tag.
const azureTag = "7783-7084-3265-9085-8269-3286-77"

// Here is the Watcher of the provider whose machine this shows itself to be, or nil. It
// asks nobody. A variable that names a metadata service shows it too.
func Detect(rebalance bool) Watcher {
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
