// Package profile records where a run spends its CPU time and memory: CPU, memory and execution
// profiles in files, and Go's profiles over HTTP during the run.
//
// Do not measure the speed of a run while it is profiled: a profile itself costs a few percent.
package profile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	rpprof "runtime/pprof"
	"runtime/trace"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/redact"
)

// Options select the profiles to record. The zero value records nothing.
type Options struct {
	// CPU, Memory and Trace are the paths of the files to write. "go tool pprof" reads the first two,
	// and "go tool trace" reads the third. Existing files are overwritten. If a path is empty, the
	// profile is not recorded.
	CPU, Memory, Trace string
	// Address is the address at which Go's profiles are served under /debug/pprof/, such as
	// 127.0.0.1:6060. With port 0, a free port is used. If Address is empty, no profiles are served.
	Address string
}

// A Recording consists of the profiles that Start has begun to record. The caller of Start must call
// Stop.
type Recording struct {
	served string
	stops  []func() error
}

// Start begins the recordings in opts. If it returns an error, the error names the setting, and
// nothing is recorded.
func Start(opts Options) (*Recording, error) {
	r := &Recording{}
	for _, begin := range []func(Options) error{r.serve, r.memory, r.cpu, r.trace} {
		if err := begin(opts); err != nil {
			return nil, errors.Join(err, r.Stop())
		}
	}
	return r, nil
}

// Address returns the address at which profiles are served, or "".
func (r *Recording) Address() string { return r.served }

// Stop ends the recording and writes what has been recorded.
func (r *Recording) Stop() error {
	var errs []error
	for len(r.stops) > 0 {
		last := len(r.stops) - 1
		errs = append(errs, r.stops[last]())
		r.stops = r.stops[:last]
	}
	return errors.Join(errs...)
}

// output is the file of a setting. It stores the first error of a write, because Go's profilers do
// not return write errors.
type output struct {
	setting string
	file    *os.File
	err     error
}

func create(setting, name string) (*output, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w; give a file in a directory that can be written to", setting, err)
	}
	return &output{setting: setting, file: f}, nil
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.fault(err)
	return n, err
}

func (o *output) fault(err error) {
	if o.err == nil {
		o.err = err
	}
}

func (o *output) close() error {
	o.fault(o.file.Close())
	if o.err != nil {
		return fmt.Errorf("--%s: %w", o.setting, o.err)
	}
	return nil
}

// record creates the file name and calls start with it. Stop will call stop and close the file. If
// name is empty, record does nothing. setting is the name of the setting, for use in errors.
func (r *Recording) record(setting, name string, start func(io.Writer) error, stop func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	out, err := create(setting, name)
	if err != nil {
		return err
	}
	if err := start(out); err != nil {
		out.fault(err)
		return out.close()
	}
	r.stops = append(r.stops, func() error {
		out.fault(stop(out))
		return out.close()
	})
	return nil
}

func (r *Recording) cpu(opts Options) error {
	return r.record("cpu-profile", opts.CPU, rpprof.StartCPUProfile, func(io.Writer) error { rpprof.StopCPUProfile(); return nil })
}

func (r *Recording) memory(opts Options) error {
	return r.record("mem-profile", opts.Memory, func(io.Writer) error { return nil }, func(w io.Writer) error {
		runtime.GC() // the profile shows the memory that was in use after the last garbage collection
		return rpprof.Lookup("allocs").WriteTo(w, 0)
	})
}

func (r *Recording) trace(opts Options) error {
	return r.record("trace", opts.Trace, trace.Start, func(io.Writer) error { trace.Stop(); return nil })
}

// cmdline is like pprof.Cmdline, but hides the secrets in URLs.
func cmdline(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	args := make([]string, len(os.Args))
	for i, arg := range os.Args {
		args[i] = redact.Text(arg)
	}
	_, _ = io.WriteString(w, strings.Join(args, "\x00"))
}

// Handler returns a handler that serves Go's profiles under /debug/pprof/.
func Handler() http.Handler {
	// Do not use http.DefaultServeMux, because any package can add handlers to it.
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func (r *Recording) serve(opts Options) error {
	if opts.Address == "" {
		return nil
	}
	listener, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return fmt.Errorf("--debug-address: %w; give an address of this machine and a free port, such as 127.0.0.1:6060", err)
	}
	server := &http.Server{Handler: Handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // until Stop closes it
	}()
	r.served = listener.Addr().String()
	r.stops = append(r.stops, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		err := server.Shutdown(ctx)
		if errors.Is(err, ctx.Err()) { // a client is still reading a profile of the finished run
			err = server.Close()
		}
		<-ended
		return err
	})
	return nil
}
