package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/internal/testutil/netfault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// data returns n bytes in which no two parts are alike.
func data(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		_, _ = fmt.Fprintf(&b, "%d ", i)
	}
	return b.Bytes()[:n]
}

// file is a file on a server.
type file struct {
	content []byte
	plain   bool // without an ETag
	date    time.Time
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.plain {
		sum := sha256.Sum256(f.content)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	}
	http.ServeContent(w, r, "tasks.jsonl", f.date, bytes.NewReader(f.content))
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func read(t *testing.T, address string, opts Options) ([]byte, error) {
	t.Helper()
	r, err := open(t.Context(), address, opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	return io.ReadAll(r)
}

// If the connection breaks repeatedly, no byte is lost or read twice.
func TestHTTPGoesOn(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*file{
		"by its tag":  {content: data(3_000_000)},
		"by its date": {content: data(3_000_000), plain: true, date: time.Now().Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, f)
			cut := netfault.NewProxy(t, s.Listener.Addr().String(), 100_000, 20)
			got, err := read(t, "http://"+cut.Address+"/tasks.jsonl", Options{})
			if err != nil || !bytes.Equal(got, f.content) || cut.Cuts() != 20 {
				t.Errorf("%d bytes of %d, %d cuts: %v", len(got), len(f.content), cut.Cuts(), err)
			}
		})
	}
}

// If a server does not support ranges, the file is read again from its start, unless it has changed.
func TestHTTPWithoutRanges(t *testing.T) {
	t.Parallel()
	content := data(500_000)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}))
	cut := netfault.NewProxy(t, s.Listener.Addr().String(), 200_000, 3)
	got, err := read(t, "http://"+cut.Address+"/", Options{})
	if err != nil || !bytes.Equal(got, content) || cut.Cuts() != 3 {
		t.Errorf("%d bytes, %d cuts: %v", len(got), cut.Cuts(), err)
	}
}

// If a download cannot be continued, the error says why, for each kind of server.
func TestHTTPBreaksOff(t *testing.T) {
	t.Parallel()
	content := data(500_000)
	// answer sends a part of the content for the first request, and then breaks the connection. rest
	// handles all further requests.
	answer := func(header map[string]string, rest http.HandlerFunc) http.HandlerFunc {
		var asked atomic.Int32
		return func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) > 1 {
				rest(w, r)
				return
			}
			for k, v := range header {
				w.Header().Set(k, v)
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:100_000])
			panic(http.ErrAbortHandler)
		}
	}
	tag := map[string]string{"ETag": `"one"`}
	part := func(contentRange, etag string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("ETag", etag)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[100_000:])
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	whole := func(etag string, n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", etag)
			w.Header().Set("Content-Length", fmt.Sprint(n))
			_, _ = w.Write(make([]byte, n))
		}
	}
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"nothing to know it by":    {answer(nil, part("bytes 100000-499999/500000", "")), "neither ETag nor Last-Modified"},
		"another tag":              {answer(tag, whole(`"two"`, len(content))), "was changed"},
		"another length":           {answer(tag, whole(`"one"`, 400_000)), "was changed"},
		"a part of another":        {answer(tag, part("bytes 100000-499999/500000", `"two"`)), "was changed"},
		"a part of a longer one":   {answer(tag, part("bytes 100000-599999/600000", `"one"`)), "was changed"},
		"another part":             {answer(tag, part("bytes 0-499999/500000", `"one"`)), "the bytes from 100000 on were requested"},
		"a part without a range":   {answer(tag, part("", `"one"`)), "sent the wrong range"},
		"not so many bytes":        {answer(tag, status(http.StatusRequestedRangeNotSatisfiable)), "was changed"},
		"a condition that failed":  {answer(tag, status(http.StatusPreconditionFailed)), "was changed"},
		"it is gone":               {answer(tag, status(http.StatusNotFound)), "was changed"},
		"it may not be read more":  {answer(tag, status(http.StatusForbidden)), "403"},
		"something else":           {answer(tag, status(http.StatusTeapot)), "418"},
		"the server is away again": {answer(tag, status(http.StatusBadGateway)), "after 100000 of 500000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tc.handler)
			got, err := read(t, s.URL, Options{GiveUpAfter: 2 * time.Second})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !bytes.Equal(got, content[:100_000]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// A permanent error at the start is returned without a retry, with a message that explains it. A
// transient error is retried a few times.
func TestHTTPAtStart(t *testing.T) {
	t.Parallel()
	tries := atomic.Int32{}
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/busy":
			if tries.Add(1) < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = io.WriteString(w, "at last")
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/brotli":
			w.Header().Set("Content-Encoding", "br")
		case "/closed":
			w.WriteHeader(http.StatusForbidden)
		case "/ftp":
			http.Redirect(w, r, "ftp://127.0.0.1/file", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	if got, err := read(t, s.URL+"/busy", Options{}); err != nil || string(got) != "at last" {
		t.Errorf("%q, %v", got, err)
	}
	for path, want := range map[string]string{
		"/none?key=secret": "the file does not exist", "/round": "more than 10 redirects", "/brotli": "Content-Encoding br", "/closed": "403", "/ftp": "ftp://",
	} {
		if _, err := read(t, strings.Replace(s.URL, "//", "//user:secret@", 1)+path, Options{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for address, want := range map[string]string{
		"ftp://host/file": "unsupported scheme ftp://", "https://": "invalid URL", "http://user:secret@[::1/x": "invalid URL",
		"s3://bucket": "s3://bucket/tasks.json", "gs:///x": "gs://bucket/tasks.json",
	} {
		if _, err := open(t.Context(), address, Options{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// Credentials and the query of the address are sent only to the host of the address, and not to
// another host to which a response redirects.
func TestHTTPRedirects(t *testing.T) {
	t.Parallel()
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range r.Header {
			if strings.Contains(strings.Join(v, ""), "secret") || k == "Authorization" || k == "Referer" {
				t.Errorf("another host received the header %s: %v", k, v)
			}
		}
		_, _ = io.WriteString(w, "the file")
	}))
	// The same machine under another name counts as another host.
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	first := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "secret" {
			t.Errorf("the host itself received the credentials %q, %q", user, password)
		}
		http.Redirect(w, r, elsewhere, http.StatusFound)
	}))
	got, err := read(t, strings.Replace(first.URL, "//", "//me:secret@", 1)+"/f?token=secret", Options{})
	if err != nil || string(got) != "the file" {
		t.Errorf("%q, %v", got, err)
	}
	request := func(address string) *http.Request {
		u, _ := url.Parse(address)
		return &http.Request{URL: u, Header: http.Header{}}
	}
	if err := follow(request("http://host/"), []*http.Request{request("https://host/")}); err == nil || !strings.Contains(err.Error(), "https:// to http://") {
		t.Errorf("%v", err)
	}
}

// If a server stops sending, the connection is closed, and the rest is requested on another connection.
func TestHTTPStalls(t *testing.T) {
	t.Parallel()
	f := &file{content: data(300_000)}
	var asked atomic.Int32
	silent := make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1: // in the middle
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(f.content)))
			_, _ = w.Write(f.content[:100_000])
			_ = http.NewResponseController(w).Flush()
			<-silent
		case 2: // at the start
			<-silent
		default:
			w.Header().Set("ETag", `"one"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
		}
	}))
	defer close(silent)
	// On a busy machine, a further response can take longer than StallTimeout, and be requested again.
	got, err := read(t, s.URL, Options{StallTimeout: 300 * time.Millisecond})
	if err != nil || !bytes.Equal(got, f.content) || asked.Load() < 3 {
		t.Errorf("%d bytes in %d requests: %v", len(got), asked.Load(), err)
	}
}

// Close ends a blocked Read. The end of the context ends a blocked open.
func TestCloseEndsARead(t *testing.T) {
	t.Parallel()
	silent, asked := make(chan struct{}), make(chan struct{}, 10)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			_ = http.NewResponseController(w).Flush()
		}
		asked <- struct{}{}
		<-silent
	}))
	defer close(silent)
	r, err := open(t.Context(), s.URL+"/", Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := r.Read(make([]byte, 10))
		ended <- err
	}()
	<-asked
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := open(ctx, s.URL+"/hangs", Options{})
		ended <- err
	}()
	<-asked
	cancel()
	if err := <-ended; err == nil {
		t.Error("it was opened")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://me:pa@ss@host:1/a/b.json?x=y#z": "https://host:1/a/b.json", "http://host": "http://host", "S3://b/k?1": "s3://b/k?1",
		"https://host/a@b": "https://host/a@b",
	} {
		if got := redactAddress(address); got != want || !isRemote(address) {
			t.Errorf("%s: %s", address, got)
		}
	}
	for _, path := range []string{"tasks.json", "/a/b", "://x", "a b://c", "C:\\x", "-", "1a://x"} {
		if isRemote(path) {
			t.Errorf("%s is an address", path)
		}
	}
}

// Errors of the HTTP client do not contain the secrets of an address, such as the password of a proxy.
func TestErrorsOfTheClientAreMasked(t *testing.T) {
	t.Parallel()
	cause := errors.New(`invalid proxy address "http://bob:PASSW0RD@proxy:99999": parse error`)
	for _, err := range []error{cause, &url.Error{Op: "Get", URL: "https://h/?sig=TOPSECRET", Err: cause}} {
		got := withoutAddress(err)
		if text := got.Error(); strings.Contains(text, "PASSW0RD") || strings.Contains(text, "TOPSECRET") || !strings.Contains(text, "bob:xxxxx@proxy") || !errors.Is(got, cause) {
			t.Errorf("%v becomes %v", err, got)
		}
	}
}
