package sqsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ctworker/ctworker/internal/retry"
)

// MaxResponseBytes is the maximum size of a response in bytes. A response with ten messages of the
// maximum size fits, even if each character is escaped.
const MaxResponseBytes = 64 << 20

// errResponseTooLarge is returned for a response of more than MaxResponseBytes bytes.
var errResponseTooLarge = fmt.Errorf("the response is larger than %d MiB", MaxResponseBytes>>20)

// guard is the outermost middleware of every request. It returns a panic in the SDK as an error. If
// AWS rejects the credentials, guard makes the credentialsReloader load the credentials again before
// the next request.
type guard struct{ credentials *credentialsReloader }

// addGuard returns a client option that adds a guard.
func addGuard(credentials *credentialsReloader) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(guard{credentials}, middleware.Before)
	}
}

// ID implements middleware.InitializeMiddleware.
func (guard) ID() string { return "ctworker guard" }

// HandleInitialize implements middleware.InitializeMiddleware.
func (g guard) HandleInitialize(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
	out middleware.InitializeOutput, metadata middleware.Metadata, err error,
) {
	err = retry.Guard(func() (err error) {
		out, metadata, err = next.HandleInitialize(ctx, in)
		return err
	})
	if err != nil && isRefusal(err) {
		g.credentials.Refuse()
	}
	return out, metadata, err
}

// limit is a middleware that limits the size of responses. It does not limit the content of an S3
// object, because the SDK does not hold the whole content in memory.
type limit struct{}

func addLimit(stack *middleware.Stack) error { return stack.Deserialize.Add(limit{}, middleware.After) }

// ID implements middleware.DeserializeMiddleware.
func (limit) ID() string { return "ctworker limit" }

// HandleDeserialize implements middleware.DeserializeMiddleware.
func (limit) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	out middleware.DeserializeOutput, metadata middleware.Metadata, err error,
) {
	out, metadata, err = next.HandleDeserialize(ctx, in)
	response, ok := out.RawResponse.(*smithyhttp.Response)
	if !ok || response == nil || response.Response == nil || response.Body == nil {
		return out, metadata, err
	}
	streamed := middleware.GetOperationName(ctx) == "GetObject" && response.StatusCode < http.StatusMultipleChoices
	if !streamed {
		response.Body = &limitedBody{ReadCloser: response.Body, remaining: MaxResponseBytes}
	}
	return out, metadata, err
}

// limitedBody is the body of a response. Read returns errResponseTooLarge after remaining bytes
// have been read.
type limitedBody struct {
	io.ReadCloser
	remaining int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.remaining <= 0 {
		return 0, errResponseTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.remaining)])
	b.remaining -= int64(n)
	return n, err
}

// maxRedirects is the maximum number of redirects per request. The SDK's own client has no maximum.
const maxRedirects = 5

// Redirected returns a client with the transport of client. The returned client follows at most
// maxRedirects redirects, and only redirects that keep the method (307 and 308). It does not send the
// session token of temporary credentials to another host. If client is not the SDK's
// *http.BuildableClient, Redirected returns client itself.
func Redirected(client aws.HTTPClient) aws.HTTPClient {
	c, ok := client.(*awshttp.BuildableClient)
	if !ok {
		return client
	}
	return &http.Client{Transport: c.GetTransport(), CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("the server redirected the request more than %d times", maxRedirects)
		}
		if s := to.Response.StatusCode; s != http.StatusTemporaryRedirect && s != http.StatusPermanentRedirect {
			return http.ErrUseLastResponse
		}
		if via[len(via)-1].URL.Host != to.URL.Host {
			to.Header.Del("X-Amz-Security-Token")
		}
		return nil
	}}
}

// isDamaged reports whether err means that a response was invalid or incomplete.
func isDamaged(err error) bool {
	return retry.IsPanic(err) || errors.Is(err, errIncompleteResponse)
}
