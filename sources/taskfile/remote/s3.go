package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/sqsapi"
)

// defaultRegion is used if no region is configured. S3 responds with the region of the bucket.
const defaultRegion = "us-east-1"

// s3File is a file in Amazon S3. It implements object.
type s3File struct {
	cfg         awssdk.Config
	client      *s3.Client
	bucket, key string

	total         int64
	etag, version *string // from the first response
}

func newS3(ctx context.Context, bucket, key, region string) (*s3File, error) {
	cfg, err := sqsapi.Config(ctx, region)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	f := &s3File{bucket: bucket, key: key, total: -1}
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = sqsapi.Redirected(c.WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = headerTimeout }))
	}
	f.cfg = cfg
	f.connect()
	return f, nil
}

func (f *s3File) connect() {
	f.client = s3.NewFromConfig(f.cfg, func(o *s3.Options) {
		o.UsePathStyle = o.BaseEndpoint != nil // S3-compatible servers often have no host names per bucket
		o.Retryer = awssdk.NopRetryer{}
		// Partial responses have no checksum.
		o.ResponseChecksumValidation = awssdk.ResponseChecksumValidationWhenRequired
	})
}

func (f *s3File) size() int64 { return f.total }

func (f *s3File) close() {
	if c, ok := f.cfg.HTTPClient.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (f *s3File) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &f.bucket, Key: &f.key, IfMatch: f.etag, VersionId: f.version}
	if offset > 0 {
		in.Range = awssdk.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := f.client.GetObject(ctx, in)
	if err != nil {
		if region := bucketRegion(err); region != "" && region != f.cfg.Region {
			f.cfg.Region = region
			f.connect()
			out, err = f.client.GetObject(ctx, in)
		}
	}
	if err != nil {
		return nil, f.describeError(err, offset)
	}
	if offset == 0 {
		f.total, f.etag, f.version = awssdk.ToInt64(out.ContentLength), out.ETag, out.VersionId
		return out.Body, nil
	}
	if want := fmt.Sprintf("bytes %d-%d/%d", offset, f.total-1, f.total); awssdk.ToString(out.ContentRange) != want {
		_ = out.Body.Close()
		return nil, permanentf("S3 sent the wrong range %[2]q instead of %[1]q: download the file and use the local copy", want, awssdk.ToString(out.ContentRange))
	}
	return out.Body, nil
}

// bucketRegion returns the region of the bucket from an error response of S3, or "".
func bucketRegion(err error) string {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return ""
}

// describeError wraps the error with a message that says what to do.
func (f *s3File) describeError(err error, offset int64) error {
	code, status := "", 0
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch {
	case status == http.StatusPreconditionFailed, status == http.StatusRequestedRangeNotSatisfiable, offset > 0 && status == http.StatusNotFound:
		return errChanged
	case code == "NoSuchBucket":
		return permanentf("the bucket %q does not exist: correct the URL: %w", f.bucket, err)
	case status == http.StatusNotFound:
		return permanentf("the bucket has no file %q: correct the URL: %w", f.key, err)
	case sqsapi.HasNoCredentials(err) && offset == 0:
		return permanentf("no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or assign a role to the instance or the container: %w", err)
	case strings.Contains(code, "AccessDenied"), status == http.StatusForbidden && code == "":
		return permanentf("permission denied, or the file does not exist: allow s3:GetObject on arn:aws:s3:::%s/%s (and s3:ListBucket on the bucket, to see which of the two): %w", f.bucket, f.key, err)
	case sqsapi.Classify(err) == retry.Suspect: // credentials may be renewed
		return fmt.Errorf("s3 GetObject: AWS rejected the credentials; renew them, and check them with \"aws sts get-caller-identity\": %w", err)
	case status == http.StatusForbidden:
		return permanentf("AWS does not accept these credentials; renew them (aws sts get-caller-identity shows who they belong to): %w", err)
	case code == "InvalidObjectState":
		return permanentf("the file is archived: restore it first (aws s3api restore-object): %w", err)
	case sqsapi.IsRetryable(err):
		return fmt.Errorf("s3 GetObject: %w", err)
	}
	return permanentf("s3 GetObject: %w", err)
}
