package sqsapi

import (
	"errors"
	"fmt"
	"net"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/ctworker/ctworker/internal/retry"
)

// These maps group the error codes of SQS by their meaning. The functions below compare codes
// instead of error types, because the result of a batch entry contains only a code. Source: AWS,
// Amazon SQS API Reference, the errors of each action; Common errors.
var (
	lostCodes = map[string]bool{
		"ReceiptHandleIsInvalid": true, "AWS.SimpleQueueService.ReceiptHandleIsInvalid": true,
		"MessageNotInflight": true, "AWS.SimpleQueueService.MessageNotInflight": true,
		"InvalidParameterValue": true, // "… Reason: Message does not exist or is not available for visibility timeout change"
	}
	noQueueCodes = map[string]bool{"QueueDoesNotExist": true, "AWS.SimpleQueueService.NonExistentQueue": true}
	deletedCodes = map[string]bool{"QueueDeletedRecently": true, "AWS.SimpleQueueService.QueueDeletedRecently": true}
	deniedCodes  = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "KmsAccessDenied": true, "KMS.AccessDeniedException": true}
	keyCodes     = map[string]bool{
		"InvalidClientTokenId": true, "UnrecognizedClientException": true, "SignatureDoesNotMatch": true,
		"InvalidAccessKeyId": true, "ExpiredToken": true, "ExpiredTokenException": true, "IncompleteSignature": true,
		"InvalidSignatureException": true, "AuthFailure": true, "InvalidToken": true, "TokenRefreshRequired": true,
		"RequestExpired": true, "RequestTimeTooSkewed": true, "MissingAuthenticationToken": true,
		"MissingAuthenticationTokenException": true, "InvalidSecurity": true, "NotAuthorized": true,
	}
)

// codeOf returns the error code of the AWS response in err, or "" if err contains none. It removes
// the namespace that some servers put before a code, because the maps above contain codes without a
// namespace.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return retry.BareCode(api.ErrorCode())
	}
	return ""
}

// IsReceiptExpired reports whether err means that the lease on a message has expired.
func IsReceiptExpired(err error) bool { return lostCodes[codeOf(err)] }

// IsNotFound reports whether err means that a queue does not exist.
func IsNotFound(err error) bool { return noQueueCodes[codeOf(err)] }

// IsRetryable reports whether err is transient: a network error, throttling, or a failure inside
// SQS.
func IsRetryable(err error) bool { return Classify(err) == retry.Transient }

// Classify returns the retry class of err. Rejected credentials and invalid responses are
// retry.Suspect, because the credentials may be renewed, and the next response may be valid.
func Classify(err error) retry.Class {
	var api smithy.APIError
	var response *awshttp.ResponseError
	switch {
	case isDamaged(err), isRefusal(err):
		return retry.Suspect
	case !errors.As(err, &api), retry.TransientCode(api.ErrorCode()), api.ErrorFault() == smithy.FaultServer,
		errors.As(err, &response) && retry.TransientStatus(response.HTTPStatusCode()):
		return retry.Transient
	}
	return retry.Permanent
}

// isRefusal reports whether AWS rejected the credentials, or the SDK found no credentials.
func isRefusal(err error) bool { return keyCodes[codeOf(err)] || HasNoCredentials(err) }

// DescribeError wraps err, the error of an action on a queue, in an error whose text explains what
// to do.
func DescribeError(action, queue string, err error) error {
	advice := ""
	switch code := codeOf(err); {
	case noQueueCodes[code]:
		advice = fmt.Sprintf("queue %q does not exist in this account and region; create it (ctworker queue create, or ctworker load --create), or correct --queue-name, --job-id or --region", queue)
	case deniedCodes[code]:
		advice = fmt.Sprintf("permission denied; allow sqs:%s on the queue %q in the IAM policy of these credentials", action, queue)
	case keyCodes[code]:
		advice = "AWS rejected the credentials; renew them (aws sts get-caller-identity shows whose credentials are in use)"
	case deletedCodes[code]:
		advice = fmt.Sprintf("queue %q was deleted less than 60 s ago; wait 60 s, then create it again", queue)
	case isDamaged(err):
		advice = "invalid response; check whether a proxy changes responses, and check AWS_ENDPOINT_URL if it is set"
	case code == "":
		advice = describeUnreachable(err)
	default:
		return fmt.Errorf("sqs %s, queue %q: %w", action, queue, err)
	}
	return fmt.Errorf("sqs %s: %s: %w", action, advice, err)
}

// HasNoCredentials reports whether the SDK found no credentials. It compares the text of the error,
// because the SDK has no error type for this case.
func HasNoCredentials(err error) bool { return strings.Contains(err.Error(), "get identity: ") }

// isMisconfigured reports whether err has a cause that retries cannot fix within seconds:
// missing credentials, or an unknown host.
func isMisconfigured(err error) bool {
	var dns *net.DNSError
	return HasNoCredentials(err) || errors.As(err, &dns) && dns.IsNotFound
}

// isDenied reports whether err means that these credentials lack a permission.
func isDenied(err error) bool { return deniedCodes[codeOf(err)] }

// describeUnreachable returns the advice for a request that got no response.
func describeUnreachable(err error) string {
	var dns *net.DNSError
	switch {
	case HasNoCredentials(err):
		return "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or assign a role to the instance or the container"
	case errors.As(err, &dns):
		return fmt.Sprintf("host %s not found; correct the region (--region or AWS_REGION) or AWS_ENDPOINT_URL, or check the network", dns.Name)
	}
	return "SQS is unreachable; check the network, and AWS_ENDPOINT_URL if it is set"
}
