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

// permissions are what an action needs, and the role that has it.
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

// topicActions are the actions on a topic; the others are on a subscription.
var topicActions = map[string]bool{"Publish": true, "GetTopic": true, "CreateTopic": true, "DeleteTopic": true}

// localCredentials is in the error of a request that was not sent, as a token for it
// could not be had (gRPC: http2_client.go).
const tokenErrorText = "per-RPC creds failed"

// IsNotFound reports whether Pub/Sub says that there is no such topic or subscription.
func IsNotFound(err error) bool { return codeOf(err) == codes.NotFound }

// IsDenied reports whether Pub/Sub says that these credentials may not.
func IsDenied(err error) bool { return codeOf(err) == codes.PermissionDenied }

// IsRetryable reports whether err is transient: a network error, throttling, or an error
// of the service itself.
func IsRetryable(err error) bool { return Classify(err) == retry.Transient }

// Classify reports whether the same request may succeed later. Refused credentials and
// damaged responses are Suspect: the credentials may be renewed, and the next response may
// be complete.
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
		// Fetching a token may fail because of the network.
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
var errIncompleteResponse = errors.New("damaged answer: Pub/Sub did not confirm every message")

// codeOf is the code of Pub/Sub's own answer, or codes.Unknown where there was none.
func codeOf(err error) codes.Code {
	s, _ := status.FromError(err)
	return s.Code()
}

// Explain says in words what to do about an error of an action on a queue.
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
			advice = fmt.Sprintf("Pub/Sub is not enabled in the project; gcloud services enable pubsub.googleapis.com --project %s does so", q.clients.location.Project)
			break
		}
		p := permissions[action]
		advice = fmt.Sprintf("permission denied; allow %s on the %s %q (the role %s has it)", p[0], kind, name, p[1])
	case codes.Unauthenticated:
		advice = "Google does not accept these credentials; renew them (gcloud auth application-default login), or correct the file in GOOGLE_APPLICATION_CREDENTIALS"
	case codes.Unavailable, codes.DeadlineExceeded:
		advice = "Pub/Sub was not reached; check the network, --region, and " + emulatorVar + " if it is set"
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

// explainConnect says in words what to do where there is nobody to ask as.
func describeConnectError(err error) error {
	if strings.Contains(err.Error(), "could not find default credentials") {
		return fmt.Errorf("pubsub: there are no credentials; run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a key's file, or give the machine a service account: %w", err)
	}
	if file := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"); file != "" {
		return fmt.Errorf("pubsub: the file %q, which GOOGLE_APPLICATION_CREDENTIALS names, has no credentials that can be used: %w", file, err)
	}
	return fmt.Errorf("pubsub: there are no credentials that can be used; renew them (gcloud auth application-default login): %w", err)
}

// ackError is what Pub/Sub says of one message of a request for many, where it delivers
// exactly once.
type ackError struct {
	code      string
	transient bool
}

func (e *ackError) Error() string { return "Pub/Sub says " + e.code }

// IsLost reports whether Pub/Sub says that a message is no longer held for us.
func IsAckIDExpired(err error) bool {
	var ack *ackError
	return errors.As(err, &ack) && !ack.transient
}

const (
	transientPrefix = "TRANSIENT_"
	// permanent is also what a message gets whose id Pub/Sub does not know at all.
	invalidAckIDCode = "PERMANENT_FAILURE_INVALID_ACK_ID"
)

// Answers is what came of each of the messages that a request for all of them was
// about, which ended with err. Where Pub/Sub delivers exactly once, it says of some
// of them what is wrong; the request has done its work on the others.
// Source: Google, Pub/Sub, Exactly-once delivery, and ErrorInfo's metadata.
//
// each is whether err may be about one of several messages, and does not say which.
func AckErrors(ids []string, err error) (errs []error, split bool) {
	errs = make([]error, len(ids))
	if err == nil {
		return errs, false
	}
	var ackCodes map[string]string
	if a, ok := apierror.FromError(err); ok {
		ackCodes = a.Metadata()
	}
	told := false
	for i, id := range ids {
		if code, ok := ackCodes[id]; ok {
			told = true
			errs[i] = &ackError{code: code, transient: strings.HasPrefix(code, transientPrefix)}
		}
	}
	if told {
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
