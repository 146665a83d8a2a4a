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

// A Proxy stands before a server, counts what it is asked for, and keeps a ledger of the
// subscriptions.
type Proxy struct {
	// Address is its own.
	Address string

	server *grpc.ClientConn

	mu      sync.Mutex
	methods map[string]int
	refused map[string]bool // methods that do not reach the server
	pulled  func(*pubsubpb.ReceivedMessage)
	ledger
}

// A ProxyOption changes a Proxy.
type ProxyOption func(*options)

type options struct {
	pulled func(*pubsubpb.ReceivedMessage)
	age    time.Duration
}

// WithPulled has f told of each message that is pulled.
func WithPulled(f func(*pubsubpb.ReceivedMessage)) ProxyOption {
	return func(o *options) { o.pulled = f }
}

// WithConnectionAge has a connection last about so long, and then be made anew.
func WithConnectionAge(d time.Duration) ProxyOption { return func(o *options) { o.age = d } }

// Before starts a Proxy before the server at an address. It is ended with the test.
func Before(t testing.TB, address string, opts ...ProxyOption) *Proxy {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(mostBytes)))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: conn, methods: map[string]int{}, refused: map[string]bool{}, pulled: o.pulled, ledger: newLedger()}
	serverOptions := []grpc.ServerOption{grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(p.handle), grpc.MaxRecvMsgSize(mostBytes)}
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

const mostBytes = 64 << 20

// frame is a message as it is on the wire.
type frame struct{ bytes []byte }

// rawCodec passes frames on, so that a method need not be known to be forwarded.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("pubsubtest: a %T", v)
	}
	return f.bytes, nil
}

func (rawCodec) Unmarshal(b []byte, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("pubsubtest: a %T", v)
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
	refused := p.refused[method]
	p.mu.Unlock()
	if refused {
		return status.Error(codes.Unavailable, "not now")
	}
	var in, out frame
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	// What reaches the server takes effect whether its client is still there or not, and
	// the ledger has to know.
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

// record enters what a request has done.
func (p *Proxy) record(method string, in, out []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch method {
	case "Publish":
		request, answer := &pubsubpb.PublishRequest{}, &pubsubpb.PublishResponse{}
		if err == nil && proto.Unmarshal(in, request) == nil && proto.Unmarshal(out, answer) == nil {
			p.published(request.GetTopic(), answer.GetMessageIds())
		}
	case "Pull":
		request, answer := &pubsubpb.PullRequest{}, &pubsubpb.PullResponse{}
		if err != nil || proto.Unmarshal(in, request) != nil || proto.Unmarshal(out, answer) != nil {
			return
		}
		for _, m := range answer.GetReceivedMessages() {
			p.held(request.GetSubscription(), m)
			if p.pulled != nil {
				p.pulled(m)
			}
		}
	case "Acknowledge":
		request := &pubsubpb.AcknowledgeRequest{}
		if proto.Unmarshal(in, request) == nil {
			p.acknowledged(request.GetSubscription(), request.GetAckIds(), err)
		}
	case "ModifyAckDeadline":
		request := &pubsubpb.ModifyAckDeadlineRequest{}
		if err == nil && proto.Unmarshal(in, request) == nil {
			p.modified(request.GetSubscription(), request.GetAckIds(), time.Duration(request.GetAckDeadlineSeconds())*time.Second)
		}
	case "Seek", "DeleteSubscription":
		request := &pubsubpb.SeekRequest{} // both have the name at the same place
		if err == nil && proto.Unmarshal(in, request) == nil {
			p.emptied(request.GetSubscription())
		}
	case "CreateSubscription":
		answer := &pubsubpb.Subscription{}
		if err == nil && proto.Unmarshal(out, answer) == nil {
			p.created(answer)
		}
	}
}

// Refuse has a method answered as by a server that is away, or no longer.
func (p *Proxy) Refuse(method string, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[method] = away
}

// Of is how often a method has been called.
func (p *Proxy) Of(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.methods[method]
}

// All is how many requests there have been.
func (p *Proxy) All() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := 0
	for _, n := range p.methods {
		all += n
	}
	return all
}

// Table is what has been asked for, by method, and in all for each of n tasks.
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
