package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/sources/taskfile"
)

// Options configures Open and OpenTasks. The zero value has defaults.
type Options struct {
	// Region is the AWS region for s3://. Defaults to the region in the AWS configuration. If the
	// bucket is in another region, the reader switches to that region.
	Region string
	// StallTimeout is the time without received bytes after which a connection is replaced.
	// Defaults to 60s.
	StallTimeout time.Duration
	// GiveUpAfter is the time without received bytes, over all connections of a Read, after which
	// Read returns an error. Defaults to 5m.
	GiveUpAfter time.Duration
	// Log receives warnings about repeated requests and ambiguous YAML values.
	Log zerolog.Logger
}

// Validate returns an error that lists every invalid field, or nil.
func (o Options) Validate() error {
	return optcheck.Join("remote.Options", optcheck.NotNegative("StallTimeout", o.StallTimeout), optcheck.NotNegative("GiveUpAfter", o.GiveUpAfter))
}

func (o Options) withDefaults() Options {
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Minute
	}
	if o.GiveUpAfter <= 0 {
		o.GiveUpAfter = 5 * time.Minute
	}
	return o
}

// errChanged is returned if the file changes while it is read.
var errChanged = errors.New("the file was changed while it was read: wait until the file is complete, then start again; to skip tasks that are done, use --resume; the command ctworker load has --tasks-to-skip instead, which is safe only if the beginning of the file has not changed")

// permanentError is an error that is not retried.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanentf(format string, args ...any) error { return permanentError{fmt.Errorf(format, args...)} }

func isTransient(err error) bool {
	return !errors.As(err, new(permanentError)) && !errors.Is(err, errChanged)
}

// An object is one version of a file: the version that the first successful call of open finds.
type object interface {
	// open starts to read at the offset. An error is transient unless it is a permanentError
	// or errChanged. When ctx ends, reading from body fails.
	open(ctx context.Context, offset int64) (body io.ReadCloser, err error)
	// size returns the size of the file, or -1 if it is unknown or open has not succeeded yet.
	size() int64
	// close closes idle connections.
	close()
}

// isRemote reports whether a path is a URL with any scheme, as opposed to the path of a local file.
func isRemote(path string) bool {
	scheme, _, ok := strings.Cut(path, "://")
	if !ok || scheme == "" {
		return false
	}
	for i, c := range strings.ToLower(scheme) {
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && !strings.ContainsRune("+-.", c)) {
			return false
		}
	}
	return true
}

// redactAddress returns a URL without its password and its query. The query of a signed URL
// contains the signature.
func redactAddress(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	if scheme = strings.ToLower(scheme); scheme == "http" || scheme == "https" {
		rest, _, _ = strings.Cut(rest, "#")
		rest, _, _ = strings.Cut(rest, "?")
		host, path, slash := strings.Cut(rest, "/")
		host = host[strings.LastIndex(host, "@")+1:]
		if rest = host; slash {
			rest += "/" + path
		}
	}
	return scheme + "://" + rest
}

// open opens the file at address and connects to its server. It retries transient errors for a few
// seconds. ctx limits only the opening. The caller must close the reader.
func open(ctx context.Context, address string, opts Options) (*reader, error) {
	opts = opts.withDefaults()
	obj, err := newObject(context.WithoutCancel(ctx), address, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", redactAddress(address), err)
	}
	r := newReader(redactAddress(address), obj, opts)
	defer context.AfterFunc(ctx, r.cancel)()
	attempts := retry.Transients(isTransient)
	attempts.Reporter, attempts.Action, attempts.SlowAfter = r.reporter, "open", slowAfter
	_, err = retry.AtStart(r.ctx, attempts, func() (struct{}, error) { return struct{}{}, r.connect() })
	if err != nil {
		_ = r.Close() // it has not been read
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return r, nil
}

// slowAfter is the time after which a request at the start is logged as unanswered.
const slowAfter = 3 * time.Second

func newObject(ctx context.Context, address string, opts Options) (object, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	switch scheme := strings.ToLower(scheme); scheme {
	case "http", "https":
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return nil, errors.New("invalid URL: use one such as https://host/path/tasks.json") // err is omitted because it contains the password
		}
		return newHTTP(u), nil
	case "s3", "gs":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" || key == "" {
			return nil, fmt.Errorf("invalid URL: it needs a bucket and a file name, such as %s://bucket/tasks.json", scheme)
		}
		if scheme == "s3" {
			return newS3(ctx, bucket, key, opts.Region)
		}
		return newGCS(ctx, bucket, key)
	default:
		return nil, fmt.Errorf("unsupported scheme %s://: use https://, http://, s3:// or gs://, or a local file", scheme)
	}
}

// OpenTasks opens a local or a remote task file. ctx limits only the opening, not the reading from
// the returned Source. If ctx ends, OpenTasks returns even if a local file system hangs.
//
// If file.OnAmbiguous is nil, the first ambiguous YAML value is logged to opts.Log. If file.OnWait
// is nil, a message is logged to opts.Log if no process opens a FIFO for writing.
func OpenTasks(ctx context.Context, path string, opts Options, file taskfile.Options) (*taskfile.Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if file.OnAmbiguous == nil {
		file.OnAmbiguous = func(a taskfile.Ambiguity) {
			opts.Log.Warn().Str("file", a.File).Int64("entry", a.Entry).Int64("line", a.Line).
				Str("value", a.Value).Str("read_as", a.Here).Str("yaml_1_1_reads", a.YAML11).
				Msg("ambiguous YAML value: YAML 1.1 reads it differently; quote it (only the first one is reported)")
		}
	}
	if file.OnWait == nil {
		file.OnWait = func() {
			opts.Log.Info().Str("file", path).Msg("waiting until another process opens the task file FIFO for writing")
		}
	}
	if !isRemote(path) {
		return startup.Open(ctx, func() (*taskfile.Source, error) { return taskfile.Open(path, file) },
			func(s *taskfile.Source) { _ = s.Close(context.Background()) }, "opening "+path)
	}
	r, err := open(ctx, path, opts)
	if err != nil {
		return nil, err
	}
	file.Stream, file.Size = r, r.Size()
	return taskfile.Open(r.Name(), file)
}
