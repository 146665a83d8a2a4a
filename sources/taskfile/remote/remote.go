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

	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/sources/taskfile"
)

// Options say how a file is read. The zero value is good.
type Options struct {
	// Region is the region of AWS for s3://. Default: as AWS's own tools find it, and
	// then the bucket's own.
	Region string
	// Stall is after how long without a byte a connection is given up and made anew.
	// Default 60 s.
	StallTimeout time.Duration
	// Patience is after how long without a byte, on however many connections, the
	// reading is given up. Default 5 minutes.
	GiveUpAfter time.Duration
	// Log receives warnings about repeated requests and ambiguous YAML values.
	Log zerolog.Logger
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

// errChanged says that the file is no longer the one whose reading was begun.
var errChanged = errors.New("the file was changed while it was read: start again when it is complete, and skip its first tasks only if they are the same")

// final is an error after which another try would only meet the same.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanentf(format string, args ...any) error { return permanentError{fmt.Errorf(format, args...)} }

func isTransient(err error) bool {
	return !errors.As(err, new(permanentError)) && !errors.Is(err, errChanged)
}

// An object is one version of a file: the one that the first open has found.
type object interface {
	// open begins to read at an offset. An error that is neither final nor errChanged
	// may be another the next time. ctx is of the body as well.
	open(ctx context.Context, offset int64) (body io.ReadCloser, err error)
	// size is the file's, once it has been opened; -1 where that is not known.
	size() int64
	// close ends what idle connections there are.
	close()
}

// isRemote reports whether a path is an address, of whatever kind, and not of a local file.
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

// Name is an address as it may be told: without a password, and without what is behind
// its "?", where signed addresses have theirs.
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

// Open finds the file, and begins to read it. What the network keeps from it is tried a
// few times. ctx is Open's alone: the reader reads until it is closed.
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

// lateAnswer is the time after which a request at the start is logged as unanswered.
const slowAfter = 3 * time.Second

func newObject(ctx context.Context, address string, opts Options) (object, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	switch scheme := strings.ToLower(scheme); scheme {
	case "http", "https":
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return nil, errors.New("this is no address: give one such as https://host/path/tasks.json") // the error would tell its password
		}
		return newHTTP(u), nil
	case "s3", "gs":
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" || key == "" {
			return nil, fmt.Errorf("give the bucket and the file's name, such as %s://bucket/tasks.json", scheme)
		}
		if scheme == "s3" {
			return newS3(ctx, bucket, key, opts.Region)
		}
		return newGCS(ctx, bucket, key)
	default:
		return nil, fmt.Errorf("files from %s:// cannot be read: give one on https://, http://, s3:// or gs://, or a local one", scheme)
	}
}

// OpenTasks opens a local or a remote task file. ctx applies to opening the file, and not to
// reading from the returned Source. If ctx ends, OpenTasks returns even if a local file system
// hangs. The first ambiguous YAML value is logged to opts.Log, unless file.OnAmbiguous is set, and so
// is the wait for a writer of a FIFO, unless file.OnWait is set.
func OpenTasks(ctx context.Context, path string, opts Options, file taskfile.Options) (*taskfile.Source, error) {
	if file.OnAmbiguous == nil {
		file.OnAmbiguous = func(a taskfile.Ambiguity) {
			opts.Log.Warn().Str("file", a.File).Int64("entry", a.Entry).Int64("line", a.Line).
				Str("value", a.Value).Str("read_as", a.Here).Str("yaml_1_1_reads", a.YAML11).
				Msg("ambiguous YAML value: YAML 1.1 reads it differently; quote it (only the first one is reported)")
		}
	}
	if file.OnWait == nil {
		file.OnWait = func() { opts.Log.Info().Str("file", path).Msg("waiting for a writer of the FIFO") }
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
