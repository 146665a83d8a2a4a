package procexec

import (
	"bufio"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A panic during the handling of a message from the fork server counts as the exit of the fork
// server.
func TestForkServer_PanicCountsAsExit(t *testing.T) {
	t.Parallel()
	ours, childFD := connected(t)
	h := &ForkServer{
		conn: ours, lines: bufio.NewReader(ours), onWarning: func(string) { panic("a fault in the log") },
		live: map[int64]*forkedProcess{}, exitedCh: make(chan struct{}), sourceDone: make(chan struct{}),
		receiverDone: make(chan struct{}), sweeperDone: make(chan struct{}),
	}
	go h.receive()
	go h.guarded(h.sweepOrphans)
	if _, err := childFD.Write([]byte(`{"warning":"x"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	<-h.Exited()
	if err := h.ExitError(); !errors.Is(err, ErrForkServerExited) || !strings.Contains(err.Error(), "a fault in the log") {
		t.Errorf("error %v", err)
	}
	_ = h.Close() // returns an error, because the panic has closed the connection
}

func connected(t *testing.T) (ours, childFD *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		both[i], _ = conn.(*net.UnixConn)
		t.Cleanup(func() { _ = conn.Close() })
	}
	return both[0], both[1]
}

// If a function panics on the thread that starts processes, the goroutine that called do panics.
func TestSpawnThread_PanicsInCaller(t *testing.T) {
	t.Parallel()
	th := newSpawnThread(false)
	defer th.close()
	defer func() {
		if v := recover(); v != "a fault" {
			t.Errorf("recovered %v", v)
		}
	}()
	th.do(func() { panic("a fault") })
}
