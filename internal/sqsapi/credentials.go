package sqsapi

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// reloadPause is the minimum time between two reloads while AWS refuses the credentials,
// because each reload may start the program in credential_process.
const reloadPause = 2 * time.Second

// credentialsReloader provides credentials, and loads them again once AWS has refused them. The SDK
// itself reads the shared files only once, and keeps the credentials of other providers
// until they expire. credentialsReloader implements aws.CredentialsProvider.
type credentialsReloader struct {
	load func(context.Context) (aws.Config, error)

	mu       sync.Mutex
	current  aws.CredentialsProvider
	refused  bool
	reloaded time.Time
}

// Refuse marks the credentials as refused, so that the next Retrieve loads them again.
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
		// Keep the current provider if loading fails: another program may be writing the files.
		if cfg, err := r.load(ctx); err == nil && cfg.Credentials != nil {
			r.current, r.refused = cfg.Credentials, false
		}
	}
	if r.current == nil {
		return aws.AnonymousCredentials{}
	}
	return r.current
}
