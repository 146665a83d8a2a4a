package retry

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
)

// TransientStatus reports whether a request that got this HTTP status may succeed later. All
// providers and remote files use this table. It follows RFC 9110, section 15; RFC 6585 (429); and
// RFC 8470 (425).
func TransientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= http.StatusInternalServerError
}

// transientCodes are the transient error codes of the providers' HTTP services, in lower case.
// Source: AWS, Common errors; Amazon SQS and Amazon S3 API References; the codes that the AWS SDKs
// retry (aws/retry, DefaultThrottleErrorCodes and DefaultRetryableErrorCodes).
var transientCodes = map[string]bool{
	"throttling": true, "throttlingexception": true, "throttledexception": true, "throttlederror": true,
	"requestthrottled": true, "requestthrottledexception": true, "requestlimitexceeded": true,
	"toomanyrequests": true, "toomanyrequestsexception": true, "bandwidthlimitexceeded": true,
	"limitexceededexception": true, "provisionedthroughputexceededexception": true,
	"priorrequestnotcomplete": true, "transactioninprogressexception": true, "slowdown": true, "ec2throttledexception": true,
	"overlimit": true, "aws.simplequeueservice.overlimit": true, "kmsthrottled": true, "kms.throttlingexception": true,
	"aws.simplequeueservice.kmsthrottled": true, "requesttimeout": true, "requesttimeoutexception": true,
	"serviceunavailable": true, "serviceunavailableexception": true, "internalfailure": true, "internalerror": true,
	"internalservererror": true, "internalserverexception": true, "internalserviceerror": true,
	"internalserviceexception": true, "operationaborted": true,
}

// TransientCode reports whether a request that was rejected with this error code may succeed later.
// A namespace before the code is ignored; see BareCode.
func TransientCode(code string) bool { return transientCodes[strings.ToLower(BareCode(code))] }

// BareCode removes from an error code what some servers add to it: a namespace before "#", as in
// "com.amazonaws.sqs#QueueDoesNotExist", and a URI after ":". See AWS JSON protocol, Operation
// error serialization.
func BareCode(code string) string {
	code = code[strings.LastIndexByte(code, '#')+1:]
	code, _, _ = strings.Cut(code, ":")
	return strings.TrimSpace(code)
}

// TransientGRPC reports whether a request that ended with this gRPC code may succeed later. The
// codes are those of "Pub/Sub error codes" (Google) and those that Google's own clients retry. In
// addition, codes.Unknown is transient, because status.Code returns it for errors from outside
// gRPC, such as network failures.
func TransientGRPC(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unknown,
		codes.Canceled:
		return true
	}
	return false
}
