// Package sqsapi has what the packages that call AWS share: loading the configuration,
// classifying and describing errors, retrying requests, and managing SQS queues.
//
//	sources/sqs ─┐
//	sinks/sqs   ─┴▶ sqsapi ─▶ aws-sdk-go-v2
//
// The package is independent of tasks and events.
package sqsapi
