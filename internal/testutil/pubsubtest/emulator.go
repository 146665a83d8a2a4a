// Package pubsubtest provides Pub/Sub servers for tests: the official emulator, if it is installed,
// or a fake. A Proxy in front of the server counts requests. It also tracks the messages of
// subscriptions, because Pub/Sub itself does not report their number.
package pubsubtest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/pstest"
)

// startTimeout is how long the emulator may take to start.
const startTimeout = time.Minute

// A server is a Pub/Sub server that concurrent tests share, because the emulator needs a second to
// start, and hundreds of megabytes of memory. Each test uses its own project.
type server struct {
	mu      sync.Mutex
	users   int
	address string
	stop    func()
}

// shared is the server of all tests of a binary. It is stopped when the last test that uses it ends.
var shared server //nolint:gochecknoglobals // all tests of a binary share it

// Start returns the address of a Pub/Sub server on 127.0.0.1: the emulator, or the fake of Google's
// Go library if the emulator is not installed (see Emulator). The server is stopped when no test
// needs it any more.
func Start(t testing.TB) (address string) {
	t.Helper()
	s := &shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	s.users++
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 {
			s.stop()
		}
	})
	return s.address
}

func (s *server) start() error {
	jar := Emulator()
	if jar == "" {
		fake := pstest.NewServer()
		s.address, s.stop = fake.Addr, func() { _ = fake.Close() }
		return nil
	}
	var err error
	for range 3 { // another process may have taken the port in the meantime
		if err = s.startEmulator(jar); err == nil {
			return nil
		}
	}
	return err
}

func (s *server) startEmulator(jar string) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	cmd := exec.Command("java", "-Xmx2g", "-jar", jar, "--host=127.0.0.1", "--port="+port)
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	read := make(chan struct{})
	s.address, s.stop = address, func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	}
	started := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "listening on "+port) {
				close(started)
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // so that the emulator never blocks on a full pipe
	}()
	select {
	case <-started:
		return nil
	case <-read:
		err = errors.New("the Pub/Sub emulator has ended at once: run it by hand to see why")
	case <-time.After(startTimeout):
		err = errors.New("the Pub/Sub emulator has not started within a minute")
	}
	s.stop()
	return err
}

// freeAddress returns an address with a port that is not in use now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// EmulatorVariable is the variable that may name the emulator's jar.
const EmulatorVariable = "CTWORKER_PUBSUB_EMULATOR"

// Emulator returns the emulator's jar: the file in EmulatorVariable, or the jar of the Cloud SDK
// whose gcloud is in PATH. It returns "" if there is no jar, or no Java.
func Emulator() string {
	if jar := os.Getenv(EmulatorVariable); jar != "" {
		return jar
	}
	if _, err := exec.LookPath("java"); err != nil {
		return ""
	}
	gcloud, err := exec.LookPath("gcloud")
	if err != nil {
		return ""
	}
	if gcloud, err = filepath.EvalSymlinks(gcloud); err != nil {
		return ""
	}
	jars, err := filepath.Glob(filepath.Join(filepath.Dir(gcloud), "..", "platform", "pubsub-emulator", "lib", "cloud-pubsub-emulator-*-all.jar"))
	if err != nil || len(jars) == 0 {
		return ""
	}
	return jars[len(jars)-1]
}
