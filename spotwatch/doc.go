// Package spotwatch watches for notices that this machine is about to be taken away: of
// AWS, Google Cloud and Azure, and made-up ones.
//
//	metadata service ◀─ AWS, GCP, Azure ─▶ Notice
//
// # The guarantee
//
// A notice is reported once, soon after the metadata service has it. A service that is
// not there, hangs or answers nonsense is told of once, in words, and asked on, no more
// than once a second.
//
// # What it is not for
//
// It stops nothing itself, and knows no tasks.
package spotwatch
