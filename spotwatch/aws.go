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

// AWS watches the instance metadata service of EC2, with tokens (IMDSv2).
type AWS struct {
	// Endpoint is the service's address. Default: AWS_EC2_METADATA_SERVICE_ENDPOINT, and
	// else http://169.254.169.254.
	Endpoint string
	// Rebalance has recommendations to rebalance looked for as often as terminations.
	Rebalance bool
}

// How often is asked. AWS recommends every 5 s; a notice is two minutes, of which the
// tasks are to have all. What is not a termination can wait.
const (
	awsPollInterval     = 1250 * time.Millisecond
	awsSlowPollInterval = 5 * time.Second
	awsRequestTimeout   = 2 * time.Second // for an answer
	awsErrorBackoff     = 5 * time.Second // after one that was none
)

// awsPath is a category of metadata, and what makes notices of it.
// Source: AWS, Instance metadata categories; Spot Instance interruption notices; View
// scheduled events.
type awsPath struct {
	path string
	read func(body string) (Notice, bool)
}

// Watch implements Watcher.
func (a AWS) Watch(ctx context.Context, report func(Notice), warn func(string)) {
	client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, Endpoint: a.endpoint(), Retryer: aws.NopRetryer{}})
	tell, complain := &dedup{report: report}, &warnOnce{warn: warn}
	often := []awsPath{{"spot/instance-action", readAction}}
	rarely := []awsPath{{"events/maintenance/scheduled", readScheduled}, {"autoscaling/target-lifecycle-state", readLifecycle}, {"spot/termination-time", readTerminationTime}}
	rebalance := awsPath{"events/recommendations/rebalance", readRebalance}
	if a.Rebalance {
		often = append(often, rebalance)
	} else {
		rarely = append(rarely, rebalance)
	}
	next := time.Now()
	for turn, faults := 0, 0; ; {
		paths := often
		if !time.Now().Before(next) {
			paths = append(paths[:len(paths):len(paths)], rarely[turn%len(rarely)])
			turn++
			next = time.Now().Add(awsSlowPollInterval)
		}
		wait := awsPollInterval
		for _, p := range paths {
			body, err := get(ctx, client, p.path)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if faults++; faults > 1 { // a token may have run out, once
					complain.once(explainAWS(err))
				}
				wait = awsErrorBackoff
			default:
				faults = 0
				if n, ok := p.read(body); ok {
					n.Source = "aws " + p.path
					tell.reportChange(n)
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

// get returns a category, or "" where there is none.
func get(ctx context.Context, client *imds.Client, path string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, awsRequestTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil { // the SDK may panic on a damaged response
			text, err = "", fmt.Errorf("panic in the AWS SDK: %v", p)
		}
	}()
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		if codeOf(err) == http.StatusNotFound {
			return "", nil
		}
		return "", err
	}
	defer func() { _ = out.Content.Close() }()
	body, err := io.ReadAll(io.LimitReader(out.Content, 64<<10))
	return string(body), err
}

// codeOf is the status of an answer, or 0 where there was none.
func codeOf(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

func explainAWS(err error) string {
	const then = "; without it this instance's termination notices are not seen"
	switch code := codeOf(err); code {
	case http.StatusForbidden:
		return "the instance metadata service of EC2 is turned off (403): turn it on (aws ec2 modify-instance-metadata-options --http-endpoint enabled)" + then
	case 0:
		return "the instance metadata service of EC2 does not answer: in a container give it a hop limit of 2 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2), and outside of EC2 leave out --is-spot" + then + ": " + err.Error()
	default:
		return fmt.Sprintf("the instance metadata service of EC2 answers %d%s: %v", code, then, err)
	}
}

func readAction(body string) (Notice, bool) {
	var a struct {
		Action string    `json:"action"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal([]byte(body), &a) != nil || a.Action == "" {
		return Notice{}, false
	}
	n := Notice{Kind: Termination, Action: a.Action, Deadline: a.Time}
	if a.Action == "hibernate" { // begins at once
		n.Deadline = time.Now()
	}
	return n, true
}

// readTerminationTime reads the older form of the notice. A time that is over is left
// from a notice that was taken back.
func readTerminationTime(body string) (Notice, bool) {
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(body))
	if err != nil || at.Before(time.Now()) {
		return Notice{}, false
	}
	return Notice{Kind: Termination, Action: "terminate", Deadline: at}, true
}

func readRebalance(body string) (Notice, bool) {
	var r struct {
		Time time.Time `json:"noticeTime"`
	}
	if json.Unmarshal([]byte(body), &r) != nil || r.Time.IsZero() {
		return Notice{}, false
	}
	return Notice{Kind: Rebalance, Action: "rebalance"}, true
}

// scheduledTime is how times of scheduled events are written.
const scheduledTime = "2 Jan 2006 15:04:05 MST"

func readScheduled(body string) (Notice, bool) {
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

// readLifecycle reads what an Auto Scaling group is about to make of the instance.
func readLifecycle(body string) (Notice, bool) {
	if strings.TrimSpace(body) != "Terminated" {
		return Notice{}, false
	}
	return Notice{Kind: Termination, Action: "Terminated"}, true
}
