// Package sqstest has servers that behave as SQS does, for tests: moto, which is as
// near to the real one as there is, and a Fake for the faults that it cannot show.
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
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

//go:embed server.py
var server string

// startTime is how long the server may take to start: it imports all of AWS.
const startTime = time.Minute

var address = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// Start starts a server on 127.0.0.1 and returns its address. It is ended with the
// test. What is to be AWS's fault and not ours, it shows better than a fake; what it
// does wrong itself stands in the tests that have to know.
func Start(t testing.TB) string {
	t.Helper()
	cmd := exec.Command(find(t), "-c", server, "-H", "127.0.0.1", "-p", "0")
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
		for lines.Scan() { // to its end, so that the server never waits
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
		t.Fatal("moto_server has ended at once; run it by hand to see why")
	case <-time.After(startTime):
		t.Fatalf("moto_server has not started within %v", startTime)
	}
	return ""
}

// find finds the Python that has the server: in the checkout, where scripts/venv puts
// it, or on the PATH.
func find(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; at != filepath.Dir(at); at = filepath.Dir(at) {
		if venv := filepath.Join(at, "build", "venv", "bin"); isThere(filepath.Join(venv, "moto_server")) {
			return filepath.Join(venv, "python3")
		}
	}
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Fatal("moto_server is not there: `make test` installs it into build/venv")
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(path), "python3")
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// NewClient returns a client of the server.
func NewClient(endpoint string) *sqs.Client {
	return sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
}

// Client returns a client of the server, and the address of a new queue of it.
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
	for _, body := range bodies {
		if _, err := client.SendMessage(context.Background(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}); err != nil {
			t.Fatal(err)
		}
	}
}

// Redrive makes a queue whose messages go to another, which is there, once they have
// been received so often.
func Redrive(t testing.TB, client *sqs.Client, queue, dead string, receives int) {
	t.Helper()
	policy := fmt.Sprintf(`{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:%s", "maxReceiveCount": %d}`, dead, receives)
	if _, err := client.CreateQueue(context.Background(), &sqs.CreateQueueInput{
		QueueName: &queue, Attributes: map[string]string{"RedrivePolicy": policy},
	}); err != nil {
		t.Fatal(err)
	}
}

// Receive receives what is in a queue, ten messages at most.
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
