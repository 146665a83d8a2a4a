package gcp

import (
	"context"

	"google.golang.org/api/option"
	"google.golang.org/grpc"

	"github.com/ctworker/ctworker/pipeline/again"
)

// MaxAnswer is how many bytes an answer may have. Pub/Sub sends 20 MB at most; the
// library's own limit is 2 GB.
const MaxAnswer = 64 << 20

// guards return what stands around every request: a panic in the library, such as on a
// damaged answer, is an error, and a larger answer than Pub/Sub sends is not read.
func guards() []option.ClientOption {
	return []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(guard)),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxAnswer))),
	}
}

func guard(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return again.Guard(func() error { return next(ctx, method, request, answer, conn, opts...) })
}
