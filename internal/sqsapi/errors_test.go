package sqsapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

func api(code string, fault smithy.ErrorFault) error {
	return fmt.Errorf("operation: %w", &smithy.GenericAPIError{Code: code, Fault: fault})
}

// answered returns the error for a response with an HTTP status and an error code.
func answered(status int, code string) error {
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code},
	}}
}

// Errors that may disappear within minutes are Suspect. After such an error, a request is retried for
// a limited time.
func TestClassify_Suspect(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		api("ExpiredToken", smithy.FaultClient), api("com.amazonaws.sqs#InvalidClientTokenId", smithy.FaultClient),
		api("UnrecognizedClientException", smithy.FaultClient), api("AuthFailure", smithy.FaultClient),
		api("ExpiredTokenException", smithy.FaultClient), api("RequestExpired", smithy.FaultClient), answered(403, "ExpiredToken"),
		errors.New("get identity: get credentials: process exited with 1"), &pipeline.PanicError{Value: "nil"}, errIncompleteResponse,
	} {
		if got := Classify(err); got != retry.Suspect {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err           error
		passing, lost bool
	}{
		{errors.New("dial tcp: connection refused"), true, false},
		{api("com.amazonaws.sqs#RequestThrottled", smithy.FaultClient), true, false},
		{api("com.amazonaws.sqs#ReceiptHandleIsInvalid", smithy.FaultClient), false, true},
		{api("com.amazonaws.sqs#AWS.SimpleQueueService.MessageNotInflight", smithy.FaultClient), false, true},
		{answered(408, "RequestTimeout"), true, false},
		{answered(425, "TooEarly"), true, false},
		{answered(429, "Slow"), true, false},
		{answered(504, "Proxy"), true, false},
		{answered(404, "NotFound"), false, false},
		{api("com.amazonaws.sqs#ExpiredToken", smithy.FaultClient), false, false}, // suspect
		{&pipeline.PanicError{Value: "nil"}, false, false},
		{errIncompleteResponse, false, false},
		{api("RequestThrottled", smithy.FaultClient), true, false},
		{api("InternalError", smithy.FaultServer), true, false},
		{api("SomethingNew", smithy.FaultServer), true, false},
		{api("SomethingNew", smithy.FaultClient), false, false},
		{api("AccessDenied", smithy.FaultClient), false, false},
		{api("ReceiptHandleIsInvalid", smithy.FaultClient), false, true},
		{api("MessageNotInflight", smithy.FaultClient), false, true},
	} {
		if IsRetryable(tc.err) != tc.passing || IsReceiptExpired(tc.err) != tc.lost {
			t.Errorf("%v: passing %v, lost %v", tc.err, IsRetryable(tc.err), IsReceiptExpired(tc.err))
		}
	}
}

func TestDescribeError_NamesTheRemedy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{api("AWS.SimpleQueueService.NonExistentQueue", smithy.FaultClient), `queue "jobs" does not exist`},
		{api("com.amazonaws.sqs#AWS.SimpleQueueService.NonExistentQueue", smithy.FaultClient), `queue "jobs" does not exist`},
		{api("com.amazonaws.sqs#AccessDenied", smithy.FaultClient), "sqs:SendMessage"},
		{api("AWS.SimpleQueueService.QueueDeletedRecently", smithy.FaultClient), "60 s"},
		{errIncompleteResponse, "proxy"},
		{api("AccessDenied", smithy.FaultClient), "allow sqs:SendMessage on the queue \"jobs\""},
		{api("ExpiredToken", smithy.FaultClient), "renew"},
		{errors.New("get identity: get credentials: no EC2 IMDS role found"), "AWS_PROFILE"},
		{fmt.Errorf("dial: %w", &net.DNSError{Name: "sqs.us-west-9.amazonaws.com", IsNotFound: true}), "host sqs.us-west-9.amazonaws.com not found; correct the region"},
		{errors.New("connection refused"), "check the network"},
		{api("InvalidAttributeName", smithy.FaultClient), "InvalidAttributeName"},
	} {
		err := DescribeError("SendMessage", "jobs", tc.err)
		if !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	final := errors.New("over")
	for name, tc := range map[string]struct {
		errs  []error // errors of the first calls; later calls succeed
		calls int
		want  error
	}{
		"at once":       {nil, 1, nil},
		"later":         {[]error{errors.New("a"), api("Throttling", smithy.FaultClient)}, 3, nil},
		"never":         {[]error{errors.New("c"), api("AccessDenied", smithy.FaultClient)}, 2, nil},
		"the final one": {[]error{fmt.Errorf("b: %w", final)}, 1, final},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				err := Retry(t.Context(), RetryOptions{Final: final}, func() error {
					calls++
					if calls <= len(tc.errs) {
						return tc.errs[calls-1]
					}
					return nil
				})
				if calls != tc.calls || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("%d calls, %v", calls, err)
				}
			})
		})
	}
}

// atStart retries a request a few times, but not after an error that a retry cannot fix.
func TestAtStart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		calls int
	}{
		"the network":    {errors.New("connection reset"), 4},
		"busy":           {api("Throttling", smithy.FaultClient), 4},
		"no queue":       {api("QueueDoesNotExist", smithy.FaultClient), 1},
		"no host":        {fmt.Errorf("dial: %w", &net.DNSError{IsNotFound: true}), 1},
		"refused":        {api("ExpiredToken", smithy.FaultClient), 4},
		"no credentials": {errors.New("get identity: none"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				_, err := atStart(t.Context(), "", nil, func(context.Context) (int, error) { calls++; return 0, tc.err })
				if calls != tc.calls || !errors.Is(err, tc.err) {
					t.Errorf("%d calls, %v", calls, err)
				}
			})
		})
	}
}
