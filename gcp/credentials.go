package gcp

import (
	"context"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// scopes are what a token for Pub/Sub is asked for
// (Google: OAuth 2.0 Scopes for Google APIs, Cloud Pub/Sub).
var scopes = []string{"https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/pubsub"}

// reloadPause is how often the credentials are found anew at most while Google refuses
// them.
const reloadPause = 2 * time.Second

// renewing are the machine's default credentials, found anew once Google has refused a
// token of theirs. The library itself keeps a token until it expires, and a file's content
// for ever. It implements auth.TokenProvider.
type renewing struct {
	find func() (*auth.Credentials, error)

	mu       sync.Mutex
	current  *auth.Credentials
	refused  bool
	reloaded time.Time
}

func newRenewing() (*renewing, error) {
	r := &renewing{find: func() (*auth.Credentials, error) {
		return credentials.DetectDefault(&credentials.DetectOptions{Scopes: scopes, UseSelfSignedJWT: true})
	}}
	var err error
	r.current, err = r.find()
	return r, err
}

// credentials are these, with what else the machine's default ones say.
func (r *renewing) credentials() *auth.Credentials {
	now := r.current
	return auth.NewCredentials(&auth.CredentialsOptions{
		TokenProvider: r, JSON: now.JSON(), ProjectIDProvider: auth.CredentialsPropertyFunc(now.ProjectID),
		QuotaProjectIDProvider: auth.CredentialsPropertyFunc(now.QuotaProjectID), UniverseDomainProvider: auth.CredentialsPropertyFunc(now.UniverseDomain),
	})
}

// Token returns a token.
func (r *renewing) Token(ctx context.Context) (*auth.Token, error) {
	return r.provider().Token(ctx)
}

func (r *renewing) provider() *auth.Credentials {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused && time.Since(r.reloaded) >= reloadPause {
		r.reloaded = time.Now()
		// A file that cannot be read at the moment may be in the middle of being written.
		if found, err := r.find(); err == nil {
			r.current, r.refused = found, false
		}
	}
	return r.current
}

// intercept has the credentials found anew if Google refuses them.
func (r *renewing) intercept(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := next(ctx, method, request, answer, conn, opts...)
	if codeOf(err) == codes.Unauthenticated {
		r.mu.Lock()
		r.refused = true
		r.mu.Unlock()
	}
	return err
}
