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

// Fake is a server that speaks SQS's JSON 1.0 protocol, for the faults that no real
// one shows at will. What the real one does is moto's to show.
type Fake struct {
	// URL is the server's address, and QueueURL that of its one queue.
	URL, QueueURL string

	answer func(w http.ResponseWriter, r *http.Request, action string, in map[string]any)

	mu       sync.Mutex
	requests map[string]int
	fault    Fault
}

// A Fault answers a request in place of the queue, and reports whether it has.
type Fault func(w http.ResponseWriter, action string, in map[string]any) (done bool)

// NewFake starts a server for a queue of this name. It is ended with the test.
func NewFake(t testing.TB, queue string, answer func(w http.ResponseWriter, r *http.Request, action string, in map[string]any)) *Fake {
	t.Helper()
	f := &Fake{answer: answer, requests: map[string]int{}}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		server.CloseClientConnections() // a long poll may be under way
		server.Close()
	})
	f.URL = server.URL
	f.QueueURL = f.URL + "/123456789012/" + queue
	return f
}

// ServeHTTP answers one request.
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

// Client returns a client of the server that tries nothing again by itself.
func (f *Fake) Client(t testing.TB) *sqs.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: &f.URL, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
		Retryer:     aws.NopRetryer{}, // what is tried again is to be seen in the test
	})
}

// Setenv sets the environment variables with which every AWS client uses the server and its
// credentials, instead of the machine's AWS configuration.
func (f *Fake) Setenv(t testing.TB) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": f.URL, "AWS_ENDPOINT_URL_SQS": "", "AWS_REGION": "us-east-1", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
}

// SetFault has requests answered by f from now on, where it does; nil: none.
func (f *Fake) SetFault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Count is how many requests of an action there have been.
func (f *Fake) Count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[action]
}

// Refuse answers with an error as SQS does.
func Refuse(w http.ResponseWriter, status int, code, text string) {
	w.WriteHeader(status)
	Answer(w, map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": text})
}

// Answer answers with what encodes as JSON.
func Answer(w http.ResponseWriter, out any) { _ = json.NewEncoder(w).Encode(out) }

// Connections are the goroutines of a client's and a Fake's idle connections.
func Connections() []goleak.Option {
	var all []goleak.Option
	for _, name := range []string{
		"(*persistConn).readLoop", "(*persistConn).writeLoop", "(*conn).serve", "(*Server).Serve", "(*connReader).backgroundRead",
	} {
		all = append(all, goleak.IgnoreAnyFunction("net/http."+name))
	}
	return all
}
