package sqsapi

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// reloadPause is the minimum time between two reloads while AWS rejects the credentials. It limits
// how often the program in credential_process is started.
const reloadPause = 2 * time.Second

// credentialsReloader is an aws.CredentialsProvider that loads the credentials again after AWS has
// rejected them. The SDK alone would keep rejected credentials: it reads the shared files only
// once, and keeps the credentials of other providers until they expire.
type credentialsReloader struct {
	load func(context.Context) (aws.Config, error)

	mu       sync.Mutex
	current  aws.CredentialsProvider
	refused  bool
	reloaded time.Time
}

// Refuse records that AWS has rejected the credentials. The next call of Retrieve loads them again.
func (r *credentialsReloader) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = true
}

// Retrieve returns the credentials.
func (r *credentialsReloader) Retrieve(ctx context.Context) (aws.Credentials, error) {
	return r.provider(ctx).Retrieve(ctx)
}

func (r *credentialsReloader) provider(ctx context.Context) aws.CredentialsProvider {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused && time.Since(r.reloaded) >= reloadPause {
		r.reloaded = time.Now()
		if cache, ok := r.current.(*aws.CredentialsCache); ok {
			cache.Invalidate()
		}
		// If loading fails, keep the current provider, because another program may be writing the
		// files at this moment.
		if cfg, err := r.load(ctx); err == nil && cfg.Credentials != nil {
			r.current, r.refused = cfg.Credentials, false
		}
	}
	if r.current == nil {
		return aws.AnonymousCredentials{}
	}
	return r.current
}
