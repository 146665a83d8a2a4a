package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"google.golang.org/api/option"
	transport "google.golang.org/api/transport/http"

	"github.com/ctworker/ctworker/internal/retry"
)

// This package does not use the Cloud Storage client library, because the library would double the
// size of this program, and only one kind of request is needed.
// Source: Google, Cloud Storage JSON API, Objects: get, with alt=media.
const (
	gcsEndpoint    = "https://storage.googleapis.com"
	gcsScope       = "https://www.googleapis.com/auth/devstorage.read_only"
	gcsEmulatorVar = "STORAGE_EMULATOR_HOST"
)

// gcsFile is a file in Google Cloud Storage. It implements object.
type gcsFile struct {
	client      *http.Client
	connect     func(context.Context) (*http.Client, error) // returns a client with new credentials
	refused     bool                                        // the last response refused the credentials of client
	address     string
	bucket, key string
	anonymous   bool

	total      int64
	generation string // the version in the first response; "" before the first response
}

func newGCS(ctx context.Context, bucket, key string) (*gcsFile, error) {
	endpoint := gcsEndpoint
	opts := []option.ClientOption{option.WithScopes(gcsScope)}
	if host := os.Getenv(gcsEmulatorVar); host != "" {
		if endpoint = host; !strings.Contains(host, "://") {
			endpoint = "http://" + host
		}
		opts = []option.ClientOption{option.WithoutAuthentication()}
	}
	f := &gcsFile{bucket: bucket, key: key, total: -1}
	f.address = strings.TrimSuffix(endpoint, "/") + "/storage/v1/b/" + url.PathEscape(bucket) + "/o/" + url.PathEscape(key) + "?alt=media"
	f.connect = func(ctx context.Context) (*http.Client, error) {
		client, _, err := transport.NewClient(ctx, opts...)
		return client, err
	}
	client, err := f.connect(ctx)
	if err != nil && strings.Contains(err.Error(), "could not find default credentials") {
		f.anonymous = true // the file may be public
		client, _, err = transport.NewClient(ctx, option.WithoutAuthentication())
	}
	if err != nil {
		return nil, fmt.Errorf("load Google credentials: %w", err)
	}
	f.use(client)
	return f, nil
}

func (f *gcsFile) use(client *http.Client) {
	client.CheckRedirect = follow
	f.client = client
}

// renew loads the credentials of the machine again, because Google has refused the credentials of
// the client. The library itself keeps a token until the token expires, and never reads a
// credentials file again.
func (f *gcsFile) renew() {
	f.refused = false
	// The credentials keep the context, so the context must not end with this request.
	client, err := f.connect(context.Background())
	if err != nil { // another program may be writing the file
		f.refused = true
		return
	}
	f.client.CloseIdleConnections()
	f.use(client)
}

func (f *gcsFile) size() int64 { return f.total }

func (f *gcsFile) close() { f.client.CloseIdleConnections() }

func (f *gcsFile) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	address := f.address
	if f.generation != "" {
		address += "&generation=" + url.QueryEscape(f.generation)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, permanentf("invalid URL")
	}
	// Request files that are stored as gzip in this form, because a download that the server
	// decompresses could not be resumed.
	request.Header.Set("Accept-Encoding", "gzip")
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	if f.refused {
		f.renew()
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, withoutAddress(err)
	}
	if err := f.check(response, offset); err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	return response.Body, nil
}

// check stores the version from the first response, and compares later responses with it.
func (f *gcsFile) check(r *http.Response, offset int64) error {
	switch {
	case r.StatusCode == http.StatusOK && offset == 0:
		f.generation, f.total = r.Header.Get("X-Goog-Generation"), r.ContentLength
		return nil
	case r.StatusCode == http.StatusOK && f.generation != "": // the server sends the same version again from its start
		_, err := io.CopyN(io.Discard, r.Body, offset)
		return err
	case r.StatusCode == http.StatusPartialContent:
		return checkRange(r, offset, f.total)
	}
	return f.describeError(r)
}

// describeError returns an error for the response, with a message that says what to do.
func (f *gcsFile) describeError(r *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1000)) // the text is optional
	answer := errors.New("Cloud Storage responded with " + r.Status + ": " + cmp.Or(strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " "), "no details"))
	switch code := r.StatusCode; {
	case code == http.StatusNotFound && f.generation != "", code == http.StatusPreconditionFailed, code == http.StatusRequestedRangeNotSatisfiable:
		return errChanged
	case code == http.StatusNotFound:
		return permanentf("the bucket %[2]q has no file %[1]q: correct the URL: %[3]w", f.key, f.bucket, answer)
	case f.anonymous && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return permanentf("no credentials found, and the file is not public; run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a key file, or assign a service account to the machine: %w", answer)
	case code == http.StatusUnauthorized: // the token may have expired: the next one may be valid
		f.refused = true
		return fmt.Errorf("credentials rejected by Google; renew them (gcloud auth application-default login), or correct the file in GOOGLE_APPLICATION_CREDENTIALS: %w", answer)
	case code == http.StatusForbidden:
		return permanentf("permission denied: allow storage.objects.get on the bucket %q (the role roles/storage.objectViewer includes it): %w", f.bucket, answer)
	case retry.TransientStatus(code):
		return answer
	}
	return permanentError{answer}
}
