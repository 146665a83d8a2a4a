// Package spotwatch will watch for notices that this machine is about to be taken
// away: of AWS, Google Cloud and Azure, and simulated ones. It will report them,
// and stop nothing itself. There is nothing in it yet.
package spotwatch
