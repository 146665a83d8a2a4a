// Package spotwatch watches for notices from the cloud provider that this machine will be
// terminated, stopped or moved. It supports AWS, Google Cloud, Azure and simulated notices.
//
//	metadata service ◀─ polls ─ AWS, GCP, Azure ─▶ Notice
//	                            Simulated ───────▶ Notice
//
// # The guarantee
//
// A notice is reported once, soon after the metadata service has it. If the service is
// unreachable or its response is invalid, a warning is reported once, and polling continues, at
// most once per second and category.
//
// # Limits
//
// The package does not stop anything, and does not know tasks.
package spotwatch
