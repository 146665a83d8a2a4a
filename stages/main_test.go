package stages_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/internal/procexec"
)

func TestMain(m *testing.M) {
	procexec.RunGuard()
	goleak.VerifyTestMain(m)
}
