package remote

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/klauspost/compress/gzip"

	"github.com/ctworker/ctworker/internal/testutil/netfault"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// A store is a server with files. The tests reach it over a network that may break connections.
type store struct {
	scheme  string
	network *netfault.Proxy
	put     func(key string, content []byte)
}

// cutEvery is the number of bytes after which the network breaks a connection, if a test requests cuts.
const cutEvery = 150_000

// s3Store returns a store that is S3, simulated by moto.
func s3Store(t *testing.T) store {
	t.Helper()
	endpoint := sqstest.Start(t)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none",
	} {
		t.Setenv(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: awssdk.String("bucket")}); err != nil {
		t.Fatal(err)
	}
	network := netfault.NewProxy(t, strings.TrimPrefix(endpoint, "http://"), cutEvery, 0)
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://"+network.Address)
	return store{
		scheme: "s3", network: network,
		put: func(key string, content []byte) {
			t.Helper()
			if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: awssdk.String("bucket"), Key: &key, Body: bytes.NewReader(content)}); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// gsStore returns a store that is Cloud Storage, simulated by fake-gcs-server in the version of tools/go.mod.
func gsStore(t *testing.T) store {
	t.Helper()
	program := filepath.Join(t.TempDir(), "fake-gcs-server")
	build := exec.Command("go", "build", "-trimpath", "-modfile=tools/go.mod", "-o", program, "github.com/fsouza/fake-gcs-server")
	build.Dir = filepath.Join("..", "..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // shares the build cache of "make build"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	network := netfault.NewProxy(t, address, cutEvery, 0)
	cmd := exec.Command(program, "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory", "-public-host", network.Address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(path, kind string, body []byte) error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", kind)
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	}
	for end := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		err := post("/storage/v1/b?project=p", "application/json", []byte(`{"name": "bucket"}`))
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("fake-gcs-server: %v", err)
		}
	}
	t.Setenv(gcsEmulatorVar, network.Address)
	return store{
		scheme: "gs", network: network,
		put: func(key string, content []byte) {
			t.Helper()
			if err := post("/upload/storage/v1/b/bucket/o?uploadType=media&name="+url.QueryEscape(key), "application/octet-stream", content); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func TestS3(t *testing.T) { testStore(t, s3Store(t)) }

func TestGS(t *testing.T) { testStore(t, gsStore(t)) }

// testStore checks the cases that apply to every store, one after the other.
func testStore(t *testing.T, s store) {
	const key = "a dir/ä+b%41?c.jsonl"
	content := data(2_000_000)
	s.put(key, content)
	address := s.scheme + "://bucket/" + key

	got, err := read(t, address, Options{})
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("as it is: %d bytes, %v", len(got), err)
	}

	cut := s.network
	cut.Cut(10)
	got, err = read(t, address, Options{})
	if err != nil || !bytes.Equal(got, content) || cut.Cuts() != 10 {
		t.Errorf("with a connection that breaks: %d bytes, %d cuts, %v", len(got), cut.Cuts(), err)
	}

	s.put("tasks.json.gz", gzipped(t, content))
	cut.Cut(3)
	if got, err = read(t, s.scheme+"://bucket/tasks.json.gz", Options{}); err != nil || !bytes.Equal(got, gzipped(t, content)) {
		t.Errorf("compressed: %d bytes, %v", len(got), err)
	}

	cut.Cut(1)
	r, err := open(t.Context(), address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != int64(len(content)) {
		t.Errorf("its size is %d", r.Size())
	}
	s.put(key, append([]byte("x"), content[1:]...)) // of the same size as before
	if _, err = io.ReadAll(r); !errors.Is(err, errChanged) {
		t.Errorf("changed meanwhile: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}

	for missing, want := range map[string]string{"://bucket/none": `no file "none"`, "://nobucket/none": "nobucket"} {
		if _, err := read(t, s.scheme+missing, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", missing, err)
		}
	}
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
