package sqsapi_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// client returns a client that sends its requests to f. Like the clients of all commands, it is
// configured with environment variables.
func client(t *testing.T, f *sqstest.Fake) *sqs.Client {
	t.Helper()
	f.Setenv(t)
	c, err := sqsapi.NewClient(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answerURL(w http.ResponseWriter, f *sqstest.Fake) {
	sqstest.WriteJSON(w, map[string]any{"QueueUrl": f.QueueURL})
}

// After AWS has rejected the credentials, the client loads them again, from the shared file or with
// credential_process.
func TestConfig_ReloadsCredentials(t *testing.T) {
	for name, profile := range map[string]string{
		"shared file":        "[default]\naws_access_key_id = %KEY\naws_secret_access_key = x\n",
		"credential_process": "[default]\ncredential_process = sh %DIR/process %KEY\n",
	} {
		t.Run(name, func(t *testing.T) {
			var f *sqstest.Fake
			var refused atomic.Int32
			f = sqstest.NewFake(t, "jobs", func(w http.ResponseWriter, r *http.Request, _ string, _ map[string]any) {
				if !strings.Contains(r.Header.Get("Authorization"), "Credential=NEW") {
					refused.Add(1)
					sqstest.WriteError(w, http.StatusForbidden, "ExpiredToken", "expired")
					return
				}
				answerURL(w, f)
			})
			dir := t.TempDir()
			file := filepath.Join(dir, "credentials")
			write := func(key string) {
				text := strings.NewReplacer("%KEY", key, "%DIR", dir).Replace(profile)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			process := `printf '{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "x", "SessionToken": "t", "Expiration": "2999-01-01T00:00:00Z"}' "$1"`
			if err := os.WriteFile(filepath.Join(dir, "process"), []byte(process), 0o600); err != nil {
				t.Fatal(err)
			}
			write("OLD")
			f.Setenv(t)
			for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
				t.Setenv(name, "")
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			c, err := sqsapi.NewClient(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			queue := "jobs"
			in := &sqs.GetQueueUrlInput{QueueName: &queue}
			if _, err := c.GetQueueUrl(t.Context(), in); err == nil || sqsapi.Classify(err) != retry.Suspect {
				t.Fatalf("with the old key: %v", err)
			}
			write("NEW")
			if _, err := c.GetQueueUrl(t.Context(), in); err != nil || refused.Load() != 1 {
				t.Errorf("with the new key: %v, %d refusals", err, refused.Load())
			}
		})
	}
}

// A response without ids makes the SDK panic. The client returns this panic as an error.
func TestConfig_TurnsThePanicOfTheSDKIntoAnError(t *testing.T) {
	f := sqstest.NewFake(t, "jobs", func(w http.ResponseWriter, _ *http.Request, _ string, _ map[string]any) {
		sqstest.WriteJSON(w, map[string]any{"Successful": []any{map[string]any{"MessageId": "m"}}})
	})
	id, body := "0", "x"
	_, err := client(t, f).SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{
		QueueUrl: &f.QueueURL, Entries: []types.SendMessageBatchRequestEntry{{Id: &id, MessageBody: &body}},
	})
	if !retry.IsPanic(err) || sqsapi.Classify(err) != retry.Suspect {
		t.Errorf("%v", err)
	}
}

// The client returns an error if a response does not end, or if the server redirects each request.
func TestConfig_BoundsAnswers(t *testing.T) {
	var requests atomic.Int32
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"a body without end": func(w http.ResponseWriter, r *http.Request) {
			piece := []byte(`{"QueueUrl": "` + strings.Repeat("x", 1<<20))
			for sent := 0; r.Context().Err() == nil && sent < 2*sqsapi.MaxResponseBytes; sent += len(piece) {
				_, _ = w.Write(piece)
			}
		},
		"an error without end": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			piece := make([]byte, 1<<20)
			for sent := 0; r.Context().Err() == nil && sent < 2*sqsapi.MaxResponseBytes; sent += len(piece) {
				_, _ = w.Write(piece)
			}
		},
		"redirects without end": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			requests.Store(0)
			f := sqstest.NewFake(t, "jobs", func(w http.ResponseWriter, r *http.Request, _ string, _ map[string]any) {
				requests.Add(1)
				answer(w, r)
			})
			name := "jobs"
			began := time.Now()
			_, err := client(t, f).GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &name})
			if err == nil || requests.Load() > 10 {
				t.Errorf("%v after %d requests in %v", err, requests.Load(), time.Since(began))
			}
		})
	}
}

// If the queue does not exist, but a queue of the other kind (standard or FIFO) exists, CreateQueue
// returns an error that names the existing queue, and creates no queue.
func TestCreateQueue_NamesTheOtherKind(t *testing.T) {
	t.Parallel()
	for want, exists := range map[string]string{"jobs.fifo": "jobs", "jobs": "jobs.fifo"} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var f *sqstest.Fake
			f = sqstest.NewFake(t, exists, func(w http.ResponseWriter, _ *http.Request, action string, in map[string]any) {
				if action != "GetQueueUrl" || in["QueueName"] != exists {
					sqstest.WriteError(w, http.StatusBadRequest, "QueueDoesNotExist", "no")
					return
				}
				answerURL(w, f)
			})
			_, _, err := sqsapi.CreateQueue(t.Context(), f.Client(t), want, nil)
			var other *sqsapi.OtherKindError
			if !errors.As(err, &other) || other.Exists != exists || !sqsapi.IsNotFound(err) || !strings.Contains(err.Error(), "--exactly-once-queue") {
				t.Errorf("%v", err)
			}
			if f.Count("CreateQueue") != 0 {
				t.Error("CreateQueue created a queue next to the existing one")
			}
		})
	}
}

// If the response lacks the URL of the queue, FindQueue sends the request again.
func TestFindQueue_WithoutAnAddress(t *testing.T) {
	t.Parallel()
	var f *sqstest.Fake
	var asked atomic.Int32
	f = sqstest.NewFake(t, "jobs", func(w http.ResponseWriter, _ *http.Request, _ string, _ map[string]any) {
		if asked.Add(1) == 1 {
			sqstest.WriteJSON(w, map[string]any{})
			return
		}
		answerURL(w, f)
	})
	if q, err := sqsapi.FindQueue(t.Context(), f.Client(t), "jobs", nil); err != nil || q.URL != f.QueueURL {
		t.Errorf("%v, %v", q, err)
	}
}
