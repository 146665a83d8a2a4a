package profile_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/internal/profile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A process can record only one CPU profile and one trace at a time, so these tests must not run in
// parallel.

func TestRecording(t *testing.T) {
	dir := t.TempDir()
	opts := profile.Options{
		CPU: filepath.Join(dir, "cpu"), Memory: filepath.Join(dir, "mem"), Trace: filepath.Join(dir, "trace"), Address: "127.0.0.1:0",
	}
	r, err := profile.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/debug/pprof/": "heap", "/debug/pprof/goroutine?debug=1": "TestRecording", "/debug/pprof/cmdline": os.Args[0],
	} {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + r.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s: status %d, error %v, without %q:\n%.500s", path, answer.StatusCode, err, want, text)
		}
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if err := r.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	for name, magic := range map[string]string{opts.CPU: "\x1f\x8b", opts.Memory: "\x1f\x8b", opts.Trace: "go 1."} {
		if text, err := os.ReadFile(name); err != nil || !bytes.HasPrefix(text, []byte(magic)) {
			t.Errorf("%s: error %v, begins with %.20q, want %q", name, err, text, magic)
		}
	}
	if _, err := net.Dial("tcp", r.Address()); err == nil {
		t.Error("the address still answers after Stop")
	}
}

func TestNothingAskedFor(t *testing.T) {
	r, err := profile.Start(profile.Options{})
	if err != nil || r.Address() != "" || r.Stop() != nil {
		t.Errorf("Start: %v, served at %q", err, r.Address())
	}
}

func TestStartFaults(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for want, opts := range map[string]profile.Options{
		"--cpu-profile: ": {CPU: filepath.Join(dir, "no", "cpu")},
		"--mem-profile: ": {Memory: dir},
		"--trace: open ":  {Trace: dir, CPU: filepath.Join(dir, "cpu")},
		"address already in use; give an address ": {Address: taken.Addr().String()},
	} {
		if _, err := profile.Start(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", opts, err, want)
		}
	}
	// Each failed Start has stopped the recordings that it had begun, so this Start succeeds.
	r, err := profile.Start(profile.Options{CPU: filepath.Join(dir, "cpu"), Trace: filepath.Join(dir, "trace")})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

func TestDiskFull(t *testing.T) {
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		return // this system has no /dev/full
	}
	r, err := profile.Start(profile.Options{CPU: full, Memory: full, Trace: full})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Stop()
	for _, setting := range []string{"--cpu-profile", "--mem-profile", "--trace"} {
		if err == nil || !strings.Contains(err.Error(), setting+": write /dev/full: no space left on device") {
			t.Errorf("%s: error %v", setting, err)
		}
	}
}
