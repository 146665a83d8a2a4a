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

// mostRedirects is how often a server may send us elsewhere.
const maxRedirects = 10

// headerTime is how long a server may take to begin its answer.
const headerTimeout = 30 * time.Second

// httpFile is a file on a server. It implements object.
type httpFile struct {
	url    *url.URL
	client *http.Client

	found bool // it has been opened
	total int64
	// What tells one version from another: of the two headers the one that the server
	// gives, the tag first.
	etag, modified string
}

func newHTTP(u *url.URL) *httpFile {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: headerTimeout, TLSHandshakeTimeout: headerTimeout,
		DisableCompression: true, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second}
	return &httpFile{url: u, total: -1, client: &http.Client{Transport: transport, CheckRedirect: follow}}
}

// follow says whether a redirect is followed. What an address has that is secret does
// not go along: the library drops the credentials itself, for another host.
func follow(to *http.Request, via []*http.Request) error {
	to.Header.Del("Referer") // has the query
	if len(via) > maxRedirects {
		return permanentf("the server has sent us elsewhere more than %d times: give the address where the file is", maxRedirects)
	}
	if from := via[len(via)-1]; from.URL.Scheme == "https" && to.URL.Scheme != "https" {
		return permanentf("the server sends us from https:// to %s://, where anybody on the way could change the file: give that address yourself if that is meant", to.URL.Scheme)
	}
	if s := to.URL.Scheme; s != "http" && s != "https" {
		return permanentf("the server sends us to an address of %s://", s)
	}
	return nil
}

func (f *httpFile) size() int64 { return f.total }

func (f *httpFile) close() { f.client.CloseIdleConnections() }

func (f *httpFile) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url.String(), nil)
	if err != nil {
		return nil, permanentf("this is no address of a file")
	}
	request.Header.Set("Accept-Encoding", "identity") // offsets are of the file as it is
	if offset > 0 {
		validator := f.validator()
		if validator == "" {
			return nil, permanentf("the connection broke after %d bytes, and the server gives neither an ETag nor a date by which to know the file again: copy the file here, and give the copy", offset)
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

// withoutAddress is an error of the client's without the address, which may have a
// password in it.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return redact.Error(err) // it may contain a proxy's password
}

// begin returns the body at the offset.
func (f *httpFile) begin(r *http.Response, offset int64) (io.ReadCloser, error) {
	switch code := r.StatusCode; {
	case code == http.StatusOK && offset == 0:
		return r.Body, f.remember(r)
	case code == http.StatusOK: // it has no ranges, or the file has changed
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
		return nil, permanentf("there is no such file (%s): correct the address", r.Status)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return nil, permanentf("the server does not let us read it (%s): give a signed address, or one with a name and a password (https://name:password@host/…)", r.Status)
	case retry.TransientStatus(code):
		return nil, fmt.Errorf("the server answers %s", r.Status)
	}
	return nil, permanentf("the server answers %s, and not with a file", r.Status)
}

// learn takes in what is to be the same from now on.
func (f *httpFile) remember(r *http.Response) error {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity", "gzip", "x-gzip", "zstd": // which the content shows by itself
	default:
		return permanentf("the server sends the file packed as %s, though nobody asked for it: only gzip and zstd can be read", encoding)
	}
	if f.found && !f.same(r) {
		return errChanged
	}
	f.found, f.total = true, r.ContentLength
	f.etag, f.modified = r.Header.Get("ETag"), r.Header.Get("Last-Modified")
	return nil
}

// validator is what If-Range takes: a tag that is not weak, or a date (RFC 9110, 13.1.5).
func (f *httpFile) validator() string {
	if f.etag != "" && !strings.HasPrefix(f.etag, "W/") {
		return f.etag
	}
	return f.modified
}

// same reports whether the answer is about the version that was found.
func (f *httpFile) same(r *http.Response) bool {
	return r.Header.Get("ETag") == f.etag && r.Header.Get("Last-Modified") == f.modified &&
		(r.StatusCode == http.StatusPartialContent || r.ContentLength == f.total)
}

// checkRange checks that a part of a file of total bytes is the one that was asked for.
func checkRange(r *http.Response, offset, total int64) error {
	text := r.Header.Get("Content-Range")
	rest, unit := strings.CutPrefix(text, "bytes ")
	part, of, cut := strings.Cut(rest, "/")
	from, _, dash := strings.Cut(part, "-")
	start, err := strconv.ParseInt(from, 10, 64)
	if !unit || !cut || !dash || err != nil || start != offset {
		return permanentf("the server was asked for the bytes from %d on, and sends %q: copy the file here, and give the copy", offset, text)
	}
	if n, err := strconv.ParseInt(of, 10, 64); err == nil && total >= 0 && n != total {
		return errChanged
	}
	return nil
}
