// Package spotwatch watches for notices from the cloud provider that this machine will be
// terminated, stopped or moved. It supports AWS, Google Cloud, Azure and simulated notices.
//
//	metadata service ◀─ polls ─ AWS, GCP, Azure ─▶ Notice
//	                            Simulated ───────▶ Notice
//
// # The guarantee
//
// A notice is reported once, soon after it appears in the metadata service. If the service is
// unreachable or its response is invalid, a warning is reported once, and polling continues. Each
// metadata category is polled at most once per second.
//
// # Limits
//
// The package only reports notices. The caller decides what to do after a notice, such as stopping
// processes.
package spotwatch
