package sqstest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"go.uber.org/goleak"
)

// Fake is a server with the JSON 1.0 protocol of SQS. It can simulate faults that moto cannot
// simulate. Test the usual behavior of SQS with moto.
type Fake struct {
	// URL is the URL of the server. QueueURL is the URL of its only queue.
	URL, QueueURL string

	answer func(w http.ResponseWriter, r *http.Request, action string, in map[string]any)

	mu       sync.Mutex
	requests map[string]int
	fault    Fault
}

// Fault responds to a request instead of the queue. It returns false if it has not responded; the queue then
// responds.
type Fault func(w http.ResponseWriter, action string, in map[string]any) (done bool)

// NewFake starts a server with one queue. answer responds to the requests. The server is stopped at
// the end of the test.
func NewFake(t testing.TB, queue string, answer func(w http.ResponseWriter, r *http.Request, action string, in map[string]any)) *Fake {
	t.Helper()
	f := &Fake{answer: answer, requests: map[string]int{}}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		server.CloseClientConnections() // a long poll may be open
		server.Close()
	})
	f.URL = server.URL
	f.QueueURL = f.URL + "/123456789012/" + queue
	return f
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	f.requests[action]++
	fault := f.fault
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if fault == nil || !fault(w, action, in) {
		f.answer(w, r, action, in)
	}
}

// Client returns a client for the server that does not retry requests.
func (f *Fake) Client(t testing.TB) *sqs.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &f.URL, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
		Retryer:     aws.NopRetryer{},
	})
}

// Setenv sets environment variables that make AWS clients send their requests to f and ignore the
// AWS configuration of the machine.
func (f *Fake) Setenv(t testing.TB) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": f.URL, "AWS_ENDPOINT_URL_SQS": "", "AWS_REGION": "us-east-1", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
}

// SetFault sets the Fault for all further requests. If fault is nil, the queue responds to them.
func (f *Fake) SetFault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Count returns the number of requests for the action.
func (f *Fake) Count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[action]
}

// WriteError writes an error response in the format of SQS.
func WriteError(w http.ResponseWriter, status int, code, text string) {
	w.WriteHeader(status)
	WriteJSON(w, map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": text})
}

// WriteJSON writes out as JSON.
func WriteJSON(w http.ResponseWriter, out any) { _ = json.NewEncoder(w).Encode(out) }

// IgnoreConnections returns goleak options that ignore the goroutines of the idle connections
// between a client and a Fake.
func IgnoreConnections() []goleak.Option {
	var all []goleak.Option
	for _, name := range []string{
		"(*persistConn).readLoop", "(*persistConn).writeLoop", "(*conn).serve", "(*Server).Serve", "(*connReader).backgroundRead",
	} {
		all = append(all, goleak.IgnoreAnyFunction("net/http."+name))
	}
	return all
}
