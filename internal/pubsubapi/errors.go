package pubsubapi

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ctworker/ctworker/internal/retry"
)

// permissions contains, for each action, the permission that it needs, and a role with that
// permission.
// Source: Google, Pub/Sub, Access control with IAM.
var permissions = map[string][2]string{
	"Pull":               {"pubsub.subscriptions.consume", "roles/pubsub.subscriber"},
	"Acknowledge":        {"pubsub.subscriptions.consume", "roles/pubsub.subscriber"},
	"ModifyAckDeadline":  {"pubsub.subscriptions.consume", "roles/pubsub.subscriber"},
	"Seek":               {"pubsub.subscriptions.consume", "roles/pubsub.subscriber"},
	"GetSubscription":    {"pubsub.subscriptions.get", "roles/pubsub.viewer"},
	"CreateSubscription": {"pubsub.subscriptions.create and pubsub.topics.attachSubscription", "roles/pubsub.editor"},
	"DeleteSubscription": {"pubsub.subscriptions.delete", "roles/pubsub.editor"},
	"Publish":            {"pubsub.topics.publish", "roles/pubsub.publisher"},
	"GetTopic":           {"pubsub.topics.get", "roles/pubsub.viewer"},
	"CreateTopic":        {"pubsub.topics.create", "roles/pubsub.editor"},
	"DeleteTopic":        {"pubsub.topics.delete", "roles/pubsub.editor"},
}

// topicActions contains the actions on a topic. All other actions are on a subscription.
var topicActions = map[string]bool{"Publish": true, "GetTopic": true, "CreateTopic": true, "DeleteTopic": true}

// tokenErrorText is part of the error text of a request that was not sent because no token could be
// obtained (gRPC: http2_client.go).
const tokenErrorText = "per-RPC creds failed"

// IsNotFound reports whether err means that a topic or subscription does not exist.
func IsNotFound(err error) bool { return codeOf(err) == codes.NotFound }

// IsDenied reports whether err means that the credentials lack a permission.
func IsDenied(err error) bool { return codeOf(err) == codes.PermissionDenied }

// IsRetryable reports whether err is transient: a network error, throttling, or an error
// of the service itself.
func IsRetryable(err error) bool { return Classify(err) == retry.Transient }

// Classify reports whether the same request may succeed later. Refused credentials and
// invalid responses are retry.Suspect, because the credentials may be renewed, and the next
// response may be valid.
func Classify(err error) retry.Class {
	var ack *ackError
	switch code := codeOf(err); {
	case errors.As(err, &ack):
		if ack.transient {
			return retry.Transient
		}
	case isDamaged(err):
		return retry.Suspect
	case code == codes.Unauthenticated:
		// The request for a token may have failed because of the network.
		text := err.Error()
		if strings.Contains(text, tokenErrorText) && !strings.Contains(text, "invalid_grant") && !strings.Contains(text, "invalid_client") {
			return retry.Transient
		}
		return retry.Suspect
	case retry.TransientGRPC(code):
		return retry.Transient
	}
	return retry.Permanent
}

// isDamaged reports whether the response was invalid.
func isDamaged(err error) bool { return retry.IsPanic(err) || errors.Is(err, errIncompleteResponse) }

// errIncompleteResponse is returned for a response that does not confirm every message.
var errIncompleteResponse = errors.New("incomplete response: Pub/Sub did not confirm every message")

// codeOf returns the gRPC code of err, or codes.Unknown if err is not a gRPC error.
func codeOf(err error) codes.Code {
	s, _ := status.FromError(err)
	return s.Code()
}

// DescribeError wraps the error of an action on the queue with a message that says what to
// do.
func (q *Queue) DescribeError(action string, err error) error {
	advice := ""
	if isDamaged(err) {
		return fmt.Errorf("pubsub %s: invalid response; check whether a proxy changes responses, and check %s if it is set: %w", action, emulatorVar, err)
	}
	kind, name := "subscription", q.Subscription
	if topicActions[action] {
		kind, name = "topic", q.Topic
	}
	switch codeOf(err) {
	case codes.NotFound:
		advice = fmt.Sprintf("the %s %q does not exist; create it (ctworker queue create, or ctworker load --create), or correct --queue-name, --job-id or --project-id", kind, name)
	case codes.PermissionDenied:
		if reasonOf(err) == "SERVICE_DISABLED" {
			advice = fmt.Sprintf("Pub/Sub is not enabled in the project; enable it (gcloud services enable pubsub.googleapis.com --project %s)", q.clients.location.Project)
			break
		}
		p := permissions[action]
		advice = fmt.Sprintf("permission denied; allow %s on the %s %q (the role %s includes it)", p[0], kind, name, p[1])
	case codes.Unauthenticated:
		advice = "credentials rejected by Google; renew them (gcloud auth application-default login), or correct the file in GOOGLE_APPLICATION_CREDENTIALS"
	case codes.Unavailable, codes.DeadlineExceeded:
		advice = "Pub/Sub is unreachable; check the network, --region, and " + emulatorVar + " if it is set"
	default:
		return fmt.Errorf("pubsub %s, %s %q: %w", action, kind, name, err)
	}
	return fmt.Errorf("pubsub %s: %s: %w", action, advice, err)
}

func reasonOf(err error) string {
	if a, ok := apierror.FromError(err); ok {
		return a.Reason()
	}
	return ""
}

// describeConnectError wraps err, which occurred when the clients were created, with a message
// that says what to do about the credentials.
func describeConnectError(err error) error {
	if strings.Contains(err.Error(), "could not find default credentials") {
		return fmt.Errorf("pubsub: no credentials found; run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a key file, or assign a service account to the machine: %w", err)
	}
	if file := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"); file != "" {
		return fmt.Errorf("pubsub: no usable credentials in the file %q (GOOGLE_APPLICATION_CREDENTIALS): %w", file, err)
	}
	return fmt.Errorf("pubsub: no usable credentials; renew them (gcloud auth application-default login): %w", err)
}

// ackError is the error of one message in an Acknowledge or ModifyAckDeadline request on a
// subscription with exactly-once delivery.
type ackError struct {
	code      string
	transient bool
}

func (e *ackError) Error() string { return "Pub/Sub rejected the ack id: " + e.code }

// IsAckIDExpired reports whether err means that the lease on a message has expired.
func IsAckIDExpired(err error) bool {
	var ack *ackError
	return errors.As(err, &ack) && !ack.transient
}

const (
	transientPrefix = "TRANSIENT_"
	// invalidAckIDCode is also used for a single ack id that Pub/Sub rejects as malformed.
	invalidAckIDCode = "PERMANENT_FAILURE_INVALID_ACK_ID"
)

// AckErrors returns, for each ack id of a request that returned err, the error of this ack id, or
// nil. With exactly-once delivery, err lists the ack ids that failed. The request then succeeded
// for all other ack ids.
// Source: Google, Pub/Sub, Exactly-once delivery, and ErrorInfo's metadata.
//
// If split is true, one of several ack ids may have caused err, but err does not name the ack id.
// The caller should then send the ack ids in smaller requests.
func AckErrors(ids []string, err error) (errs []error, split bool) {
	errs = make([]error, len(ids))
	if err == nil {
		return errs, false
	}
	var ackCodes map[string]string
	if a, ok := apierror.FromError(err); ok {
		ackCodes = a.Metadata()
	}
	listed := false
	for i, id := range ids {
		if code, ok := ackCodes[id]; ok {
			listed = true
			errs[i] = &ackError{code: code, transient: strings.HasPrefix(code, transientPrefix)}
		}
	}
	if listed {
		return errs, false
	}
	split = codeOf(err) == codes.InvalidArgument
	if split && len(ids) == 1 {
		err = &ackError{code: invalidAckIDCode}
	}
	for i := range errs {
		errs[i] = err
	}
	return errs, split && len(ids) > 1
}
