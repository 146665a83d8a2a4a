package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

// gsFile is a file in Google Cloud Storage. It implements object.
type gsFile struct {
	client      *storage.Client
	bucket, key string
	anonymous   bool

	total      int64
	generation int64 // the version that was found; 0: none yet
}

func newGS(ctx context.Context, bucket, key string) (*gsFile, error) {
	f := &gsFile{bucket: bucket, key: key, total: -1}
	client, err := storage.NewClient(ctx, option.WithScopes(storage.ScopeReadOnly))
	if err != nil && strings.Contains(err.Error(), "could not find default credentials") {
		f.anonymous = true // there are files that everybody may read
		client, err = storage.NewClient(ctx, option.WithoutAuthentication())
	}
	if err != nil {
		return nil, fmt.Errorf("the credentials of Google: %w", err)
	}
	f.client = client
	return f, nil
}

func (f *gsFile) size() int64 { return f.total }

func (f *gsFile) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	object := f.client.Bucket(f.bucket).Object(f.key).
		ReadCompressed(true). // as it is stored: else there are no offsets
		Retryer(storage.WithPolicy(storage.RetryNever))
	if f.generation != 0 {
		object = object.Generation(f.generation)
	}
	body, err := object.NewRangeReader(ctx, offset, -1)
	if err != nil {
		return nil, f.explain(err)
	}
	switch {
	case f.generation == 0:
		f.generation, f.total = body.Attrs.Generation, body.Attrs.Size
	case body.Attrs.Size != f.total || body.Attrs.Generation != 0 && body.Attrs.Generation != f.generation:
		_ = body.Close()
		return nil, ErrChanged
	}
	return body, nil
}

// explain says in words what to do about an error.
func (f *gsFile) explain(err error) error {
	status := 0
	var api *googleapi.Error
	if errors.As(err, &api) {
		status = api.Code
	}
	switch {
	case (errors.Is(err, storage.ErrObjectNotExist) || status == http.StatusNotFound) && f.generation != 0,
		status == http.StatusPreconditionFailed, status == http.StatusRequestedRangeNotSatisfiable:
		return ErrChanged
	case errors.Is(err, storage.ErrBucketNotExist):
		return finally("there is no bucket %q: correct the address: %w", f.bucket, err)
	case errors.Is(err, storage.ErrObjectNotExist), status == http.StatusNotFound:
		return finally("there is no file %q in the bucket %q: correct the address: %w", f.key, f.bucket, err)
	case f.anonymous && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		return finally("there are no credentials, and not everybody may read it; run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to a key's file, or give the machine a service account: %w", err)
	case status == http.StatusUnauthorized:
		return finally("Google does not accept these credentials; renew them (gcloud auth application-default login), or see to the file that GOOGLE_APPLICATION_CREDENTIALS names: %w", err)
	case status == http.StatusForbidden:
		return finally("these credentials may not read it: allow storage.objects.get on the bucket %q (roles/storage.objectViewer has it): %w", f.bucket, err)
	case status == 0, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return fmt.Errorf("gs: %w", err)
	}
	return finally("gs: %w", err)
}

func (f *gsFile) close() { _ = f.client.Close() } // nothing was written
