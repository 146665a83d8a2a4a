package pubsubapi

import (
	"context"

	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/ctworker/ctworker/internal/retry"
)

// MaxResponseBytes is the maximum size of a response in bytes. Pub/Sub sends at most 20 MB, and the
// default limit of the library is 2 GB.
const MaxResponseBytes = 64 << 20

// guards returns client options that turn a panic in the library into an error, and limit
// the size of responses to MaxResponseBytes.
func guards() []option.ClientOption {
	return []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(guard)),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxResponseBytes))),
	}
}

func guard(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return retry.Guard(func() error { return next(ctx, method, request, answer, conn, opts...) })
}
