package profile

import (
	"net/http/httptest"
	"os"
	"testing"
)

// The command line that is served contains no secrets.
func TestCmdline_HidesSecrets(t *testing.T) {
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{"ctworker", "run", "--task-file", "https://bob:PASSW0RD@h/x?sig=TOPSECRET"}
	w := httptest.NewRecorder()
	cmdline(w, nil)
	if got := w.Body.String(); got != "ctworker\x00run\x00--task-file\x00https://bob:xxxxx@h/x?sig=xxxxx" {
		t.Errorf("got %q", got)
	}
}
