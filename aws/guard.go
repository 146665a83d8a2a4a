package aws

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

	"github.com/ctworker/ctworker/pipeline/again"
)

// MaxAnswer is how many bytes of an answer are read: several times ten messages of the
// largest size, escaped.
const MaxAnswer = 64 << 20

// errLongAnswer says that an answer has no end, or is far larger than any can be.
var errLongAnswer = fmt.Errorf("the answer has more than %d MiB", MaxAnswer>>20)

// guard stands around every request of a client, outside of all that the SDK does. It
// turns a panic into an error, and has refused credentials read anew.
type guard struct{ credentials *renewing }

// addGuard returns an option for clients that adds a guard.
func addGuard(credentials *renewing) func(*middleware.Stack) error {
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
	err = again.Guard(func() (err error) {
		out, metadata, err = next.HandleInitialize(ctx, in)
		return err
	})
	if err != nil && isRefusal(err) {
		g.credentials.Refuse()
	}
	return out, metadata, err
}

// limit bounds the answers that are read as a whole.
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
		response.Body = &limitedBody{ReadCloser: response.Body, left: MaxAnswer}
	}
	return out, metadata, err
}

// limitedBody is a body that ends with an error if it is too long.
type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// maxRedirects is how often a server may lead elsewhere. The SDK's own client follows
// redirects without end.
const maxRedirects = 5

// Redirected returns a client that follows few redirects, and only those that keep the
// method. Token of temporary credentials do not go to another host.
func Redirected(client aws.HTTPClient) aws.HTTPClient {
	c, ok := client.(*awshttp.BuildableClient)
	if !ok {
		return client
	}
	return &http.Client{Transport: c.GetTransport(), CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("the server has redirected the request more than %d times", maxRedirects)
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

// isDamaged reports whether an answer, or a part of it, could not be used.
func isDamaged(err error) bool {
	return again.IsPanic(err) || errors.Is(err, errNoResult)
}
