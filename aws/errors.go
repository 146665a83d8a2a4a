package aws

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// codes of SQS's answers, and what they mean to us. Of an entry in a batch only its
// code is told, so that it is codes and not types which are looked at.
// Source: AWS, Amazon SQS API Reference, the errors of each action.
var (
	lostCodes = map[string]bool{
		"ReceiptHandleIsInvalid": true, "AWS.SimpleQueueService.ReceiptHandleIsInvalid": true,
		"MessageNotInflight": true, "AWS.SimpleQueueService.MessageNotInflight": true,
		"InvalidParameterValue": true, // "… Reason: Message does not exist or is not available for visibility timeout change"
	}
	busyCodes = map[string]bool{
		"RequestThrottled": true, "ThrottlingException": true, "Throttling": true, "TooManyRequestsException": true,
		"OverLimit": true, "AWS.SimpleQueueService.OverLimit": true, "KmsThrottled": true, "KMS.ThrottlingException": true,
		"RequestTimeout": true, "ServiceUnavailable": true, "InternalFailure": true, "InternalError": true,
	}
	noQueueCodes = map[string]bool{"QueueDoesNotExist": true, "AWS.SimpleQueueService.NonExistentQueue": true}
	deniedCodes  = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "KmsAccessDenied": true, "KMS.AccessDeniedException": true}
	keyCodes     = map[string]bool{
		"InvalidClientTokenId": true, "UnrecognizedClientException": true, "SignatureDoesNotMatch": true,
		"InvalidAccessKeyId": true, "ExpiredToken": true, "ExpiredTokenException": true, "IncompleteSignature": true,
	}
)

// codeOf is the code of AWS's own answer, or "" where there was none.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// IsLost reports whether SQS says that a message is no longer held for us.
func IsLost(err error) bool { return lostCodes[codeOf(err)] }

// IsNoQueue reports whether SQS says that there is no such queue.
func IsNoQueue(err error) bool { return noQueueCodes[codeOf(err)] }

// IsPassing reports whether the same request may do better later: the network, and
// what SQS says of itself. The SDK has tried some times already.
func IsPassing(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) || busyCodes[api.ErrorCode()] || api.ErrorFault() == smithy.FaultServer {
		return true
	}
	var response *awshttp.ResponseError
	return errors.As(err, &response) &&
		(response.HTTPStatusCode() >= http.StatusInternalServerError || response.HTTPStatusCode() == http.StatusTooManyRequests)
}

// Explain says in words what to do about an error of an action on a queue.
func Explain(action, queue string, err error) error {
	what := ""
	switch code := codeOf(err); {
	case noQueueCodes[code]:
		what = fmt.Sprintf("there is no queue %q in this account and region; create it (ctworker queue create, or ctworker load --create), or correct --queue-name, --job-id or --region", queue)
	case deniedCodes[code]:
		what = fmt.Sprintf("these credentials may not do it: allow sqs:%s on the queue %q in their IAM policy", action, queue)
	case keyCodes[code]:
		what = "AWS does not accept these credentials; renew them (aws sts get-caller-identity shows whose they are)"
	case code == "":
		what = unreached(err)
	default:
		return fmt.Errorf("sqs %s, queue %q: %w", action, queue, err)
	}
	return fmt.Errorf("sqs %s: %s: %w", action, what, err)
}

// HasNoCredentials reports whether there is nobody to ask as; the SDK has no type for it.
func HasNoCredentials(err error) bool { return strings.Contains(err.Error(), "get identity: ") }

// isUnset reports whether the environment has to change for another try to do better.
func isUnset(err error) bool {
	var dns *net.DNSError
	return HasNoCredentials(err) || errors.As(err, &dns) && dns.IsNotFound
}

// isDenied reports whether SQS says that these credentials may not.
func isDenied(err error) bool { return deniedCodes[codeOf(err)] }

// unreached says what to do where SQS has not answered.
func unreached(err error) string {
	var dns *net.DNSError
	switch {
	case HasNoCredentials(err):
		return "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the instance or the container a role"
	case errors.As(err, &dns):
		return fmt.Sprintf("there is no host %s; correct the region (--region or AWS_REGION) or AWS_ENDPOINT_URL, or see to the network", dns.Name)
	}
	return "SQS was not reached; see to the network, and to AWS_ENDPOINT_URL if it is set"
}
