package status

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/profile"
)

//go:embed page
var files embed.FS

const (
	// refresh is how often a Snapshot is made while a page is open.
	refresh = time.Second
	// maxClients is the maximum number of open pages.
	maxClients = 32
	// writeTimeout is the time that a client may take to read one message. A slower client is
	// disconnected.
	writeTimeout = 5 * time.Second
	// healthTimeout is the time in which the part of the program that runs tasks must respond.
	healthTimeout = 2 * time.Second
	// linger is how long Close waits for the clients to receive the last state of the run.
	linger = time.Second
)

// A Server serves the status of a run. Listen creates it, and Close stops it.
type Server struct {
	listener net.Listener
	http     *http.Server
	registry *prometheus.Registry
	served   chan struct{} // closed when Serve of the http.Server has returned; nil before

	mu      sync.Mutex
	source  Source
	clients int
	latest  []byte    // the JSON of the last Snapshot
	madeAt  time.Time // when latest was made
	ctx     context.Context
	cancel  context.CancelFunc // ends the streams of all clients
	streams sync.WaitGroup
}

// Listen opens the address, which is HOST:PORT. With port 0, a free port is used.
func Listen(address string, log zerolog.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--status-address %s: another program uses this port; give another one, or port 0 for a free port", address)
	case err != nil:
		return nil, fmt.Errorf("--status-address %s: %w", address, err)
	}
	s := &Server{listener: listener, registry: prometheus.NewRegistry()}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: nil, BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	s.http.ErrorLog = newErrorLog(log)
	return s, nil
}

// Address returns the address of the server, with its real port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve starts to answer requests about the run. It returns immediately.
func (s *Server) Serve(source Source) {
	s.mu.Lock()
	s.source = source
	s.mu.Unlock()
	s.registry.MustRegister(&collector{source: source})
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		_ = s.http.Serve(s.listener) // returns when the server is closed
	}()
}

// Close sends the last state of the run to the open pages, and stops the server.
func (s *Server) Close() error {
	if s.served == nil {
		s.cancel()
		return s.listener.Close()
	}
	s.cancel()
	ctx, stop := context.WithTimeout(context.Background(), linger)
	defer stop()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.served
	s.streams.Wait()
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the folder is embedded
	}
	static := http.FileServerFS(page)
	for _, name := range []string{"/{$}", "/app.js", "/style.css"} {
		mux.Handle("GET "+name, static)
	}
	mux.HandleFunc("GET /events", s.stream)
	mux.HandleFunc("GET /api/v1/status", s.status)
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/pprof/", profile.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.allowsHost(r.Host) {
			http.Error(w, fmt.Sprintf("the Host header must name %s", s.Address()), http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// allowsHost reports whether a request with this Host header is answered. A server on a loopback address
// only answers requests for a loopback address: any other name is that of a web site that has redirected
// its name to this machine. On other addresses, the names of this machine are not known.
func (s *Server) allowsHost(host string) bool {
	address, ok := s.listener.Addr().(*net.TCPAddr)
	if !ok || !address.IP.IsLoopback() {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}

// snapshot returns the JSON of a Snapshot that is at most refresh old.
func (s *Server) snapshot(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.madeAt) < refresh*9/10 {
		return s.latest, nil
	}
	text, err := json.Marshal(s.source.Snapshot(ctx))
	if err != nil {
		return nil, err
	}
	s.latest, s.madeAt = text, time.Now()
	return text, nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	text, err := s.snapshot(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n'))
}

// stream sends a Snapshot per refresh as server-sent events, until the client or the run ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	full := s.clients >= maxClients
	if !full {
		s.clients++
		s.streams.Add(1)
	}
	s.mu.Unlock()
	if full {
		http.Error(w, fmt.Sprintf("%d pages are open already", maxClients), http.StatusServiceUnavailable)
		return
	}
	defer func() {
		s.mu.Lock()
		s.clients--
		s.mu.Unlock()
		s.streams.Done()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		text, err := s.snapshot(context.WithoutCancel(r.Context()))
		if err != nil {
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			if s.ctx.Err() != nil { // the run has ended: send its last state
				s.mu.Lock()
				s.madeAt = time.Time{}
				s.mu.Unlock()
				if text, err := s.snapshot(context.Background()); err == nil {
					_, _ = fmt.Fprintf(w, "data: %s\n\nevent: end\ndata: {}\n\n", text)
				}
			}
			return
		}
	}
}

// health answers 200 if tasks can be run, for a liveness probe.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if err := s.source.Responsive(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// ready answers 200 while the run fetches tasks, for a readiness probe.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if snapshot := s.source.Snapshot(r.Context()); snapshot.Phase != PhaseRunning {
		http.Error(w, snapshot.Phase+": "+snapshot.StopReason, http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}
