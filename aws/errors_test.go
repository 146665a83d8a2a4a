package aws

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/smithy-go"
)

func api(code string, fault smithy.ErrorFault) error {
	return fmt.Errorf("operation: %w", &smithy.GenericAPIError{Code: code, Fault: fault})
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err           error
		passing, lost bool
	}{
		{errors.New("dial tcp: connection refused"), true, false},
		{api("RequestThrottled", smithy.FaultClient), true, false},
		{api("InternalError", smithy.FaultServer), true, false},
		{api("SomethingNew", smithy.FaultServer), true, false},
		{api("SomethingNew", smithy.FaultClient), false, false},
		{api("AccessDenied", smithy.FaultClient), false, false},
		{api("ReceiptHandleIsInvalid", smithy.FaultClient), false, true},
		{api("MessageNotInflight", smithy.FaultClient), false, true},
	} {
		if IsPassing(tc.err) != tc.passing || IsLost(tc.err) != tc.lost {
			t.Errorf("%v: passing %v, lost %v", tc.err, IsPassing(tc.err), IsLost(tc.err))
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{api("AWS.SimpleQueueService.NonExistentQueue", smithy.FaultClient), `no queue "jobs"`},
		{api("AccessDenied", smithy.FaultClient), "allow sqs:SendMessage on the queue \"jobs\""},
		{api("ExpiredToken", smithy.FaultClient), "renew"},
		{errors.New("get identity: get credentials: no EC2 IMDS role found"), "AWS_PROFILE"},
		{fmt.Errorf("dial: %w", &net.DNSError{Name: "sqs.us-west-9.amazonaws.com", IsNotFound: true}), "no host sqs.us-west-9.amazonaws.com; correct the region"},
		{errors.New("connection refused"), "see to the network"},
		{api("InvalidAttributeName", smithy.FaultClient), "InvalidAttributeName"},
	} {
		err := Explain("SendMessage", "jobs", tc.err)
		if !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	final := errors.New("over")
	for name, tc := range map[string]struct {
		errs  []error // of each call; then nil
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
				err := Again(t.Context(), final, func() error {
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

// What is needed before anything else is tried a few times, and not where that cannot
// help.
func TestAtStart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		calls int
	}{
		"the network":    {errors.New("connection reset"), 3},
		"busy":           {api("Throttling", smithy.FaultClient), 3},
		"no queue":       {api("QueueDoesNotExist", smithy.FaultClient), 1},
		"no host":        {fmt.Errorf("dial: %w", &net.DNSError{IsNotFound: true}), 1},
		"no credentials": {errors.New("get identity: none"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				_, err := atStart(t.Context(), func() (int, error) { calls++; return 0, tc.err })
				if calls != tc.calls || !errors.Is(err, tc.err) {
					t.Errorf("%d calls, %v", calls, err)
				}
			})
		})
	}
}
