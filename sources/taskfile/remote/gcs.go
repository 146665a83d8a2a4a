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

// Cloud Storage's own client would make this program twice as large, and each process of
// a worker that is written in Go with it; what is needed of it is one request.
// Source: Google, Cloud Storage JSON API, Objects: get, with alt=media.
const (
	gcsEndpoint    = "https://storage.googleapis.com"
	gcsScope       = "https://www.googleapis.com/auth/devstorage.read_only"
	gcsEmulatorVar = "STORAGE_EMULATOR_HOST"
)

// gsFile is a file in Google Cloud Storage. It implements object.
type gcsFile struct {
	client      *http.Client
	connect     func(context.Context) (*http.Client, error) // finds the credentials
	refused     bool                                        // the last answer refused those of client
	address     string
	bucket, key string
	anonymous   bool

	total      int64
	generation string // the version that was found; "": none yet
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
		f.anonymous = true // there are files that everybody may read
		client, _, err = transport.NewClient(ctx, option.WithoutAuthentication())
	}
	if err != nil {
		return nil, fmt.Errorf("the credentials of Google: %w", err)
	}
	f.use(client)
	return f, nil
}

func (f *gcsFile) use(client *http.Client) {
	client.CheckRedirect = follow
	f.client = client
}

// renew finds the machine's credentials anew, because Google has refused those of the client:
// the library keeps a token until it expires, and the content of a file for ever.
func (f *gcsFile) renew() {
	f.refused = false
	// The credentials keep the context, which is not to end with this request.
	client, err := f.connect(context.Background())
	if err != nil { // a file that cannot be read at the moment may be in the middle of being written
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
		return nil, permanentf("this is no address of a file")
	}
	// What is stored as gzip comes so: unpacked on the way, it would have no offsets.
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

// check takes in what the first answer says, and looks whether another fits to it.
func (f *gcsFile) check(r *http.Response, offset int64) error {
	switch {
	case r.StatusCode == http.StatusOK && offset == 0:
		f.generation, f.total = r.Header.Get("X-Goog-Generation"), r.ContentLength
		return nil
	case r.StatusCode == http.StatusOK && f.generation != "": // of that version, from its start
		_, err := io.CopyN(io.Discard, r.Body, offset)
		return err
	case r.StatusCode == http.StatusPartialContent:
		return checkRange(r, offset, f.total)
	}
	return f.describeError(r)
}

// explain says in words what to do about an answer.
func (f *gcsFile) describeError(r *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1000)) // for what it is worth
	answer := errors.New("Cloud Storage answers " + r.Status + ": " + cmp.Or(strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "")), " "), "nothing more"))
	switch code := r.StatusCode; {
	case code == http.StatusNotFound && f.generation != "", code == http.StatusPreconditionFailed, code == http.StatusRequestedRangeNotSatisfiable:
		return errChanged
	case code == http.StatusNotFound:
		return permanentf("there is no file %q in the bucket %q: correct the address: %w", f.key, f.bucket, answer)
	case f.anonymous && (code == http.StatusUnauthorized || code == http.StatusForbidden):
		return permanentf("there are no credentials, and not everybody may read it; run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a key's file, or give the machine a service account: %w", answer)
	case code == http.StatusUnauthorized: // the token may have expired: the next one may be valid
		f.refused = true
		return fmt.Errorf("these credentials are not accepted by Google; renew them (gcloud auth application-default login), or correct the file in GOOGLE_APPLICATION_CREDENTIALS: %w", answer)
	case code == http.StatusForbidden:
		return permanentf("these credentials may not read it: allow storage.objects.get on the bucket %q (roles/storage.objectViewer has it): %w", f.bucket, answer)
	case retry.TransientStatus(code):
		return answer
	}
	return permanentError{answer}
}
