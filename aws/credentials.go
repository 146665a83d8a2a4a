package aws

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// reloadPause is how often the settings are read anew at most while AWS refuses what they
// say: credential_process starts a program each time.
const reloadPause = 2 * time.Second

// renewing are credentials that are read anew once AWS has refused them. The SDK itself
// reads those of the shared files once, and keeps those of other providers until the time
// that they named. It implements aws.CredentialsProvider.
type renewing struct {
	load func(context.Context) (aws.Config, error)

	mu       sync.Mutex
	current  aws.CredentialsProvider
	refused  bool
	reloaded time.Time
}

// Refuse says that AWS has refused the credentials.
func (r *renewing) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = true
}

// Retrieve returns the credentials.
func (r *renewing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	return r.provider(ctx).Retrieve(ctx)
}

func (r *renewing) provider(ctx context.Context) aws.CredentialsProvider {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused && time.Since(r.reloaded) >= reloadPause {
		r.reloaded = time.Now()
		if cache, ok := r.current.(*aws.CredentialsCache); ok {
			cache.Invalidate()
		}
		// Files that cannot be read at the moment may be in the middle of being written.
		if cfg, err := r.load(ctx); err == nil && cfg.Credentials != nil {
			r.current, r.refused = cfg.Credentials, false
		}
	}
	if r.current == nil {
		return aws.AnonymousCredentials{}
	}
	return r.current
}
