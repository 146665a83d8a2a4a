package pubsubapi

import (
	"context"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// scopes are the OAuth 2.0 scopes of a token for Pub/Sub.
// Source: Google, OAuth 2.0 Scopes for Google APIs, Cloud Pub/Sub.
var scopes = []string{"https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/pubsub"}

// reloadPause is the minimum time between two reloads while Google refuses the credentials.
const reloadPause = 2 * time.Second

// credentialsReloader provides the machine's default credentials, and loads them again after Google
// has refused one of their tokens. Without credentialsReloader, Google's library would keep a token
// until it expires, and would never read a credentials file again. credentialsReloader implements
// auth.TokenProvider.
type credentialsReloader struct {
	find func() (*auth.Credentials, error)

	mu       sync.Mutex
	current  *auth.Credentials
	refused  bool
	reloaded time.Time
}

func newCredentialsReloader() (*credentialsReloader, error) {
	r := &credentialsReloader{find: func() (*auth.Credentials, error) {
		return credentials.DetectDefault(&credentials.DetectOptions{Scopes: scopes, UseSelfSignedJWT: true})
	}}
	var err error
	r.current, err = r.find()
	return r, err
}

// credentials returns credentials whose tokens come from r, and whose other properties are
// those of the machine's default credentials.
func (r *credentialsReloader) credentials() *auth.Credentials {
	now := r.current
	return auth.NewCredentials(&auth.CredentialsOptions{
		TokenProvider: r, JSON: now.JSON(), ProjectIDProvider: auth.CredentialsPropertyFunc(now.ProjectID),
		QuotaProjectIDProvider: auth.CredentialsPropertyFunc(now.QuotaProjectID), UniverseDomainProvider: auth.CredentialsPropertyFunc(now.UniverseDomain),
	})
}

// Token returns a token.
func (r *credentialsReloader) Token(ctx context.Context) (*auth.Token, error) {
	return r.provider().Token(ctx)
}

func (r *credentialsReloader) provider() *auth.Credentials {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused && time.Since(r.reloaded) >= reloadPause {
		r.reloaded = time.Now()
		// Keep the current credentials if loading fails: another program may be writing the file.
		if found, err := r.find(); err == nil {
			r.current, r.refused = found, false
		}
	}
	return r.current
}

// intercept is a gRPC interceptor. If Google refuses the credentials, intercept records this. The
// credentials are then loaded again before the next token is requested.
func (r *credentialsReloader) intercept(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := next(ctx, method, request, answer, conn, opts...)
	if codeOf(err) == codes.Unauthenticated {
		r.mu.Lock()
		r.refused = true
		r.mu.Unlock()
	}
	return err
}
