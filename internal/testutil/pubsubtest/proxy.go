package pubsubtest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Proxy forwards requests to a Pub/Sub server, counts them, and tracks the messages in the
// subscriptions.
type Proxy struct {
	// Address is the address of the Proxy.
	Address string

	server *grpc.ClientConn

	mu          sync.Mutex
	methods     map[string]int
	unavailable map[string]bool // methods that fail with Unavailable instead of being forwarded
	onPull      func(*pubsubpb.ReceivedMessage)
	tracker
}

// A ProxyOption configures a Proxy.
type ProxyOption func(*options)

type options struct {
	onPull func(*pubsubpb.ReceivedMessage)
	age    time.Duration
}

// WithOnPull makes the Proxy call f for each pulled message.
func WithOnPull(f func(*pubsubpb.ReceivedMessage)) ProxyOption {
	return func(o *options) { o.onPull = f }
}

// WithConnectionAge makes the Proxy close each connection after about d.
func WithConnectionAge(d time.Duration) ProxyOption { return func(o *options) { o.age = d } }

// NewProxy starts a Proxy for the server at address. It is stopped at the end of the test.
func NewProxy(t testing.TB, address string, opts ...ProxyOption) *Proxy {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: conn, methods: map[string]int{}, unavailable: map[string]bool{}, onPull: o.onPull, tracker: newTracker()}
	serverOptions := []grpc.ServerOption{grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(p.handle), grpc.MaxRecvMsgSize(maxMessageBytes)}
	if o.age > 0 {
		serverOptions = append(serverOptions, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: o.age}))
	}
	s := grpc.NewServer(serverOptions...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Address = l.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-ended
		_ = conn.Close()
	})
	return p
}

const maxMessageBytes = 64 << 20

// frame is an encoded message.
type frame struct{ bytes []byte }

// rawCodec does not decode messages, so that the Proxy can forward unknown methods.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("pubsubtest: unexpected type %T", v)
	}
	return f.bytes, nil
}

func (rawCodec) Unmarshal(b []byte, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("pubsubtest: unexpected type %T", v)
	}
	f.bytes = slices.Clone(b)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// handle forwards one request.
func (p *Proxy) handle(_ any, stream grpc.ServerStream) error {
	full, ok := grpc.MethodFromServerStream(stream)
	if !ok {
		return status.Error(codes.Internal, "no method")
	}
	method := full[strings.LastIndex(full, "/")+1:]
	p.mu.Lock()
	p.methods[method]++
	refused := p.unavailable[method]
	p.mu.Unlock()
	if refused {
		return status.Error(codes.Unavailable, "not now")
	}
	var in, out frame
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	// The server may process a request even if the client has canceled the request. The tracker
	// must record this.
	ctx := stream.Context()
	if method != "Pull" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
	}
	err := p.server.Invoke(ctx, full, &in, &out)
	p.record(method, in.bytes, out.bytes, err)
	if err != nil {
		return err
	}
	return stream.SendMsg(&out)
}

// record updates the tracker after a request.
func (p *Proxy) record(method string, in, out []byte, err error) { //nolint:gocyclo // one case per method
	p.mu.Lock()
	defer p.mu.Unlock()
	switch method {
	case "Publish":
		request, answer := &pubsubpb.PublishRequest{}, &pubsubpb.PublishResponse{}
		if err == nil && proto.Unmarshal(in, request) == nil && proto.Unmarshal(out, answer) == nil {
			p.addMessages(request.GetTopic(), answer.GetMessageIds())
		}
	case "Pull":
		request, answer := &pubsubpb.PullRequest{}, &pubsubpb.PullResponse{}
		if err != nil || proto.Unmarshal(in, request) != nil || proto.Unmarshal(out, answer) != nil {
			return
		}
		for _, m := range answer.GetReceivedMessages() {
			p.addPull(request.GetSubscription(), m)
			if p.onPull != nil {
				p.onPull(m)
			}
		}
	case "Acknowledge":
		request := &pubsubpb.AcknowledgeRequest{}
		if proto.Unmarshal(in, request) == nil {
			p.acknowledge(request.GetSubscription(), request.GetAckIds(), err)
		}
	case "ModifyAckDeadline":
		request := &pubsubpb.ModifyAckDeadlineRequest{}
		if err == nil && proto.Unmarshal(in, request) == nil {
			p.modifyDeadline(request.GetSubscription(), request.GetAckIds(), time.Duration(request.GetAckDeadlineSeconds())*time.Second)
		}
	case "Seek", "DeleteSubscription":
		request := &pubsubpb.SeekRequest{} // both requests have the subscription in the same field
		if err == nil && proto.Unmarshal(in, request) == nil {
			p.purge(request.GetSubscription())
		}
	case "CreateSubscription":
		answer := &pubsubpb.Subscription{}
		if err == nil && proto.Unmarshal(out, answer) == nil {
			p.addSubscription(answer)
		}
	}
}

// SetUnavailable makes calls of the method fail with the code Unavailable. If away is false, the calls are
// forwarded again.
func (p *Proxy) SetUnavailable(method string, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unavailable[method] = away
}

// Count returns the number of calls of the method.
func (p *Proxy) Count(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.methods[method]
}

// Total returns the number of all requests.
func (p *Proxy) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := 0
	for _, n := range p.methods {
		all += n
	}
	return all
}

// Table returns a table with the number of requests by method, in total and per task for n tasks.
func (p *Proxy) Table(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	all := 0
	for _, method := range slices.Sorted(maps.Keys(p.methods)) {
		_, _ = fmt.Fprintf(&b, "%-32s %6d  %.3f a task\n", method, p.methods[method], float64(p.methods[method])/float64(n))
		all += p.methods[method]
	}
	_, _ = fmt.Fprintf(&b, "%-32s %6d  %.3f a task\n", "in all", all, float64(all)/float64(n))
	return b.String()
}
