package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ctworker/ctworker/internal/redact"
	"github.com/ctworker/ctworker/internal/retry"
)

// maxRedirects is the maximum number of redirects per request.
const maxRedirects = 10

// headerTimeout is the maximum time until the response headers arrive.
const headerTimeout = 30 * time.Second

// httpFile is a file on an HTTP server. It implements object.
type httpFile struct {
	url    *url.URL
	client *http.Client

	found bool // a request has succeeded
	total int64
	// The headers ETag and Last-Modified, which identify the version.
	etag, modified string
}

func newHTTP(u *url.URL) *httpFile {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: headerTimeout, TLSHandshakeTimeout: headerTimeout,
		DisableCompression: true, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second}
	return &httpFile{url: u, total: -1, client: &http.Client{Transport: transport, CheckRedirect: follow}}
}

// follow implements http.Client.CheckRedirect. It removes the header Referer, because the query of
// the original URL may be secret. Package http itself removes credentials when the host changes.
func follow(to *http.Request, via []*http.Request) error {
	to.Header.Del("Referer") // contains the query of the original URL
	if len(via) > maxRedirects {
		return permanentf("more than %d redirects: use the URL of the file itself", maxRedirects)
	}
	if from := via[len(via)-1]; from.URL.Scheme == "https" && to.URL.Scheme != "https" {
		return permanentf("insecure redirect from https:// to %s://: if this is intended, pass the URL that the server redirects to", to.URL.Scheme)
	}
	if s := to.URL.Scheme; s != "http" && s != "https" {
		return permanentf("redirect to the unsupported scheme %s://", s)
	}
	return nil
}

func (f *httpFile) size() int64 { return f.total }

func (f *httpFile) close() { f.client.CloseIdleConnections() }

func (f *httpFile) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url.String(), nil)
	if err != nil {
		return nil, permanentf("invalid URL")
	}
	request.Header.Set("Accept-Encoding", "identity") // so that offsets refer to the stored file
	if offset > 0 {
		validator := f.validator()
		if validator == "" {
			return nil, permanentf("the connection failed after %d bytes and cannot be resumed, because the server sends neither ETag nor Last-Modified: download the file and use the local copy", offset)
		}
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		request.Header.Set("If-Range", validator)
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, withoutAddress(err)
	}
	body, err := f.begin(response, offset)
	if err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	return body, nil
}

// withoutAddress removes the URL, which may contain a password, from an error of the client.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return redact.Error(err) // the error may contain the password of a proxy
}

// begin checks the response, and returns its body, positioned at the offset.
func (f *httpFile) begin(r *http.Response, offset int64) (io.ReadCloser, error) {
	switch code := r.StatusCode; {
	case code == http.StatusOK && offset == 0:
		return r.Body, f.remember(r)
	case code == http.StatusOK: // the server does not support ranges, or the file has changed
		if !f.same(r) {
			return nil, errChanged
		}
		if _, err := io.CopyN(io.Discard, r.Body, offset); err != nil {
			return nil, err
		}
		return r.Body, nil
	case code == http.StatusPartialContent:
		if tag := r.Header.Get("ETag"); tag != "" && tag != f.etag {
			return nil, errChanged
		}
		return r.Body, checkRange(r, offset, f.total)
	case code == http.StatusRequestedRangeNotSatisfiable, code == http.StatusPreconditionFailed:
		return nil, errChanged
	case code == http.StatusNotFound, code == http.StatusGone:
		if offset > 0 {
			return nil, errChanged
		}
		return nil, permanentf("the file does not exist (%s): correct the URL", r.Status)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return nil, permanentf("access denied (%s): use a signed URL, or one with a user name and a password (https://name:password@host/…)", r.Status)
	case retry.TransientStatus(code):
		return nil, fmt.Errorf("the server responded with %s", r.Status)
	}
	return nil, permanentf("the server responded with %s instead of the file", r.Status)
}

// remember stores the properties that identify the version, from the first response.
func (f *httpFile) remember(r *http.Response) error {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity", "gzip", "x-gzip", "zstd": // package taskfile detects these
	default:
		return permanentf("the server sends the file with the unsupported Content-Encoding %s: only gzip and zstd can be read", encoding)
	}
	if f.found && !f.same(r) {
		return errChanged
	}
	f.found, f.total = true, r.ContentLength
	f.etag, f.modified = r.Header.Get("ETag"), r.Header.Get("Last-Modified")
	return nil
}

// validator returns the value for If-Range: a strong ETag, or else the date (RFC 9110, 13.1.5).
func (f *httpFile) validator() string {
	if f.etag != "" && !strings.HasPrefix(f.etag, "W/") {
		return f.etag
	}
	return f.modified
}

// same reports whether the response is about the version of the first response.
func (f *httpFile) same(r *http.Response) bool {
	return r.Header.Get("ETag") == f.etag && r.Header.Get("Last-Modified") == f.modified &&
		(r.StatusCode == http.StatusPartialContent || r.ContentLength == f.total)
}

// checkRange checks that a partial response starts at the given offset, and that the size of
// the file has not changed: it must still equal the argument total.
func checkRange(r *http.Response, offset, total int64) error {
	text := r.Header.Get("Content-Range")
	rest, unit := strings.CutPrefix(text, "bytes ")
	part, of, cut := strings.Cut(rest, "/")
	from, _, dash := strings.Cut(part, "-")
	start, err := strconv.ParseInt(from, 10, 64)
	if !unit || !cut || !dash || err != nil || start != offset {
		return permanentf("the server sent the wrong range %q, where the bytes from %d on were requested: download the file and use the local copy", text, offset)
	}
	if n, err := strconv.ParseInt(of, 10, 64); err == nil && total >= 0 && n != total {
		return errChanged
	}
	return nil
}
