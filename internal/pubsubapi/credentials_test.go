package pubsubapi

import (
	"context"
	"testing"

	"cloud.google.com/go/auth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type fixed string

func (f fixed) Token(context.Context) (*auth.Token, error) { return &auth.Token{Value: string(f)}, nil }

// Only credentials that Google rejects are loaded again.
func TestRenewing(t *testing.T) {
	t.Parallel()
	now := "old"
	find := func() (*auth.Credentials, error) {
		return auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: fixed(now)}), nil
	}
	r := &credentialsReloader{find: find}
	r.current, _ = find()
	now = "new"
	for _, step := range []struct {
		code codes.Code
		want string
	}{{codes.OK, "old"}, {codes.Unavailable, "old"}, {codes.PermissionDenied, "old"}, {codes.Unauthenticated, "new"}} {
		_ = r.intercept(t.Context(), "", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return status.Error(step.code, "")
		})
		if token, err := r.credentials().Token(t.Context()); err != nil || token.Value != step.want {
			t.Errorf("after %v: %v, %v", step.code, token, err)
		}
	}
}
