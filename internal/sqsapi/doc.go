// Package sqsapi contains the code that all callers of AWS need. It loads the configuration,
// classifies and describes errors, retries requests, and manages SQS queues.
//
//	sources/sqs ─┐
//	sinks/sqs   ─┴▶ sqsapi ─▶ aws-sdk-go-v2
//
// The package is independent of tasks and events.
package sqsapi
