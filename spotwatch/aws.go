package spotwatch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// AWS watches the instance metadata service of EC2. It uses session tokens (IMDSv2).
type AWS struct {
	// Endpoint is the URL of the service. Defaults to the value of the environment variable
	// AWS_EC2_METADATA_SERVICE_ENDPOINT or, if the variable is empty, to http://169.254.169.254.
	Endpoint string
	// Rebalance makes Watch poll for rebalance recommendations as often as for termination notices.
	// If it is false, Watch polls for rebalance recommendations less often.
	Rebalance bool
}

// AWS recommends to poll every 5 s. Watch polls for termination notices more often, because a
// notice arrives only two minutes before the termination, and each second of delay shortens the
// time that tasks have to finish. Other notices are less urgent.
const (
	awsPollInterval     = 1250 * time.Millisecond
	awsSlowPollInterval = 5 * time.Second
	awsRequestTimeout   = 2 * time.Second
	awsErrorBackoff     = 5 * time.Second // pause after an error
)

// awsCategory is a metadata category, and the function that parses its value. Sources: AWS,
// Instance metadata categories; Spot Instance interruption notices; View scheduled events.
type awsCategory struct {
	path  string
	parse func(body string) (Notice, bool)
}

// Watch implements Watcher.
func (a AWS) Watch(ctx context.Context, report func(Notice), warn func(error)) {
	client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, Endpoint: a.endpoint(), Retryer: aws.NopRetryer{}})
	reporter, warner := &dedup{report: report}, &warnOnce{warn: warn}
	frequent := []awsCategory{{"spot/instance-action", parseInstanceAction}}
	infrequent := []awsCategory{{"events/maintenance/scheduled", parseScheduled}, {"autoscaling/target-lifecycle-state", parseLifecycle}, {"spot/termination-time", parseTerminationTime}}
	rebalance := awsCategory{"events/recommendations/rebalance", parseRebalance}
	if a.Rebalance {
		frequent = append(frequent, rebalance)
	} else {
		infrequent = append(infrequent, rebalance)
	}
	next := time.Now()
	for nextInfrequent, failures := 0, 0; ; {
		paths := frequent
		if !time.Now().Before(next) {
			paths = append(paths[:len(paths):len(paths)], infrequent[nextInfrequent%len(infrequent)])
			nextInfrequent++
			next = time.Now().Add(awsSlowPollInterval)
		}
		wait := awsPollInterval
		for _, p := range paths {
			body, err := awsGet(ctx, client, p.path)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if failures++; failures > 1 { // one failure may be an expired token
					warner.report(explainAWS(err))
				}
				wait = awsErrorBackoff
			default:
				failures = 0
				if n, ok := p.parse(body); ok {
					n.Source = "aws " + p.path
					reporter.reportNew(n)
				}
			}
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (a AWS) endpoint() string {
	return cmp.Or(a.Endpoint, os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"))
}

// awsGet returns the value of a metadata category, or "" if the category does not exist.
func awsGet(ctx context.Context, client *imds.Client, path string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, awsRequestTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil { // the SDK may panic on a damaged response
			text, err = "", fmt.Errorf("panic in the AWS SDK: %v", p)
		}
	}()
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		if statusOf(err) == http.StatusNotFound {
			return "", nil
		}
		return "", err
	}
	defer func() { _ = out.Content.Close() }()
	body, err := io.ReadAll(io.LimitReader(out.Content, 64<<10))
	return string(body), err
}

func explainAWS(err error) error {
	const consequence = "; while this problem lasts, termination notices for this instance are missed"
	switch code := statusOf(err); code {
	case http.StatusForbidden:
		return errors.New("EC2 instance metadata service is disabled (403): enable it with \"aws ec2 modify-instance-metadata-options --http-endpoint enabled\"" + consequence)
	case 0:
		return fmt.Errorf("EC2 instance metadata service is unreachable: in a container, set the hop limit to 2 with \"aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2\"; outside of EC2, pass --no-is-spot%s: %w", consequence, err)
	default:
		return fmt.Errorf("EC2 instance metadata service responded with status %d%s: %w", code, consequence, err)
	}
}

func parseInstanceAction(body string) (Notice, bool) {
	var a struct {
		Action string    `json:"action"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal([]byte(body), &a) != nil || a.Action == "" {
		return Notice{}, false
	}
	n := Notice{Kind: Termination, Action: a.Action, Deadline: a.Time}
	if a.Action == "hibernate" { // hibernation begins immediately
		n.Deadline = time.Now()
	}
	return n, true
}

// parseTerminationTime parses the older form of the termination notice. It ignores a time in the
// past, because the metadata still contains the time of a termination that AWS has canceled.
func parseTerminationTime(body string) (Notice, bool) {
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(body))
	if err != nil || at.Before(time.Now()) {
		return Notice{}, false
	}
	return Notice{Kind: Termination, Action: "terminate", Deadline: at}, true
}

func parseRebalance(body string) (Notice, bool) {
	var r struct {
		Time time.Time `json:"noticeTime"`
	}
	if json.Unmarshal([]byte(body), &r) != nil || r.Time.IsZero() {
		return Notice{}, false
	}
	return Notice{Kind: Rebalance, Action: "rebalance"}, true
}

// scheduledTime is the time format of scheduled events.
const scheduledTime = "2 Jan 2006 15:04:05 MST"

func parseScheduled(body string) (Notice, bool) {
	var events []struct{ NotBefore, Code, State string }
	if json.Unmarshal([]byte(body), &events) != nil {
		return Notice{}, false
	}
	for _, e := range events {
		if e.State != "active" && e.State != "" {
			continue
		}
		switch e.Code {
		case "instance-stop", "instance-retirement", "instance-reboot", "system-reboot":
			at, _ := time.Parse(scheduledTime, e.NotBefore)
			return Notice{Kind: Maintenance, Action: e.Code, Deadline: at}, true
		}
	}
	return Notice{}, false
}

// parseLifecycle parses the target state that an Auto Scaling group has set for the instance.
func parseLifecycle(body string) (Notice, bool) {
	if strings.TrimSpace(body) != "Terminated" {
		return Notice{}, false
	}
	return Notice{Kind: Termination, Action: "Terminated"}, true
}
