package retry_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/ctworker/ctworker/internal/retry"
)

func TestTransientStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{
		200: false, 301: false, 400: false, 401: false, 403: false, 404: false, 407: false, 409: false, 410: false, 412: false, 413: false, 416: false,
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 507: true, 508: true, 509: true, 520: true, 529: true, 599: true,
		511: true, 501: false, 505: false, 0: false,
	} {
		if retry.TransientStatus(status) != want {
			t.Errorf("status %d: %v, want %v", status, !want, want)
		}
	}
}

func TestTransientCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"Throttling": true, "ThrottlingException": true, "RequestThrottled": true, "RequestLimitExceeded": true, "SlowDown": true,
		"OverLimit": true, "AWS.SimpleQueueService.OverLimit": true, "KmsThrottled": true, "KMS.ThrottlingException": true,
		"TooManyRequestsException": true, "ServiceUnavailable": true, "InternalFailure": true, "InternalError": true, "RequestTimeout": true,
		"com.amazonaws.sqs#RequestThrottled": true, "com.amazonaws.sqs#AWS.SimpleQueueService.OverLimit": true,
		"aws.protocoltests#SlowDown:http://internal.amazon.com/": true,
		"AccessDenied": false, "QueueDoesNotExist": false, "InvalidParameterValue": false, "": false, "#": false, "ExpiredToken": false,
	} {
		if retry.TransientCode(code) != want {
			t.Errorf("code %q: %v, want %v", code, !want, want)
		}
	}
}

func TestBareCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"QueueDoesNotExist": "QueueDoesNotExist", "com.amazonaws.sqs#QueueDoesNotExist": "QueueDoesNotExist",
		"com.amazonaws.sqs#AWS.SimpleQueueService.NonExistentQueue": "AWS.SimpleQueueService.NonExistentQueue",
		"a#b#FooError:http://amazon.com/":                           "FooError", " FooError ": "FooError", "": "", "#": "",
	} {
		if got := retry.BareCode(code); got != want {
			t.Errorf("code %q: %q, want %q", code, got, want)
		}
	}
}

func TestTransientGRPC(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]bool{
		codes.OK: false, codes.InvalidArgument: false, codes.NotFound: false, codes.AlreadyExists: false, codes.PermissionDenied: false,
		codes.FailedPrecondition: false, codes.OutOfRange: false, codes.Unimplemented: false, codes.Unauthenticated: false,
		codes.Canceled: true, codes.Unknown: true, codes.DeadlineExceeded: true, codes.ResourceExhausted: true, codes.Aborted: true,
		codes.Internal: true, codes.Unavailable: true, codes.DataLoss: false,
	} {
		if retry.TransientGRPC(code) != want {
			t.Errorf("code %v: %v, want %v", code, !want, want)
		}
	}
}
