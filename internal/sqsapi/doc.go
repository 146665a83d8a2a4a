// Package aws is what the packages that speak to AWS have in common: finding the
// account, telling its errors in words, and trying again.
//
//	sources/sqs ─┐
//	sinks/sqs   ─┴▶ aws ─▶ aws-sdk-go-v2
//
// # What it is not for
//
// It knows no task and no event.
package sqsapi
