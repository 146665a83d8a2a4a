// Package sqstest provides SQS servers for tests: moto, which simulates SQS accurately, and Fake,
// which simulates faults that moto cannot simulate.
package sqstest

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

//go:embed server.py
var server string

// startTimeout is the maximum time that moto takes to start. It is long because moto imports
// modules for all AWS services.
const startTimeout = time.Minute

var address = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// Start starts a moto server on 127.0.0.1, and returns its URL. The server is stopped at the end of
// the test. If a test depends on a difference between moto and SQS, describe the difference in a
// comment.
func Start(t testing.TB) string {
	t.Helper()
	cmd := exec.Command(findPython(t), "-c", server, "-H", "127.0.0.1", "-p", "0")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	found := make(chan string, 1)
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() { // reads to the end, because the server blocks if the pipe is full
			if m := address.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
	}()
	select {
	case url := <-found:
		return url
	case <-read:
		t.Fatal("moto_server exited at the start; run it manually to see why")
	case <-time.After(startTimeout):
		t.Fatalf("moto_server did not start within %v", startTimeout)
	}
	return ""
}

// findPython returns the path of a Python interpreter that can import moto. The interpreter is in
// build/venv, where scripts/venv installs moto, or in the directory of the moto_server that is
// found on the PATH.
func findPython(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; at != filepath.Dir(at); at = filepath.Dir(at) {
		if venv := filepath.Join(at, "build", "venv", "bin"); exists(filepath.Join(venv, "moto_server")) {
			return filepath.Join(venv, "python3")
		}
	}
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Fatal("moto_server not found; install it in build/venv with \"make test\"")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(path), "python3")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// NewClient returns a client for the server at endpoint.
func NewClient(endpoint string) *sqs.Client {
	return sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
}

// Client creates a queue on the server at endpoint, and returns a client for the server and the URL
// of the queue.
func Client(t testing.TB, endpoint, queue string) (client *sqs.Client, url string) {
	t.Helper()
	client = NewClient(endpoint)
	out, err := client.CreateQueue(context.Background(), &sqs.CreateQueueInput{QueueName: &queue})
	if err != nil {
		t.Fatal(err)
	}
	return client, aws.ToString(out.QueueUrl)
}

// Send sends messages to a queue.
func Send(t testing.TB, client *sqs.Client, url string, bodies ...string) {
	t.Helper()
	for len(bodies) > 0 {
		var batch []types.SendMessageBatchRequestEntry
		for size := 0; len(bodies) > 0 && (len(batch) == 0 || len(batch) < 10 && size+len(bodies[0]) <= maxBatchBytes); bodies = bodies[1:] {
			size += len(bodies[0])
			batch = append(batch, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(len(batch))), MessageBody: &bodies[0]})
		}
		out, err := client.SendMessageBatch(context.Background(), &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: batch})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Successful) != len(batch) {
			t.Fatalf("%d of %d messages were sent: %+v", len(out.Successful), len(batch), out.Failed)
		}
	}
}

// maxBatchBytes is the maximum total size of the messages in one request.
const maxBatchBytes = 1 << 20

// CreateWithRedrive creates a queue. The server moves a message of this queue to the existing queue
// dead after it was received receives times.
func CreateWithRedrive(t testing.TB, client *sqs.Client, queue, dead string, receives int) {
	t.Helper()
	policy := fmt.Sprintf(`{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:%s", "maxReceiveCount": %d}`, dead, receives)
	if _, err := client.CreateQueue(context.Background(), &sqs.CreateQueueInput{
		QueueName: &queue, Attributes: map[string]string{"RedrivePolicy": policy},
	}); err != nil {
		t.Fatal(err)
	}
}

// Receive receives at most ten messages from a queue.
func Receive(t testing.TB, client *sqs.Client, url string) (bodies []string) {
	t.Helper()
	out, err := client.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range out.Messages {
		bodies = append(bodies, aws.ToString(m.Body))
	}
	return bodies
}
