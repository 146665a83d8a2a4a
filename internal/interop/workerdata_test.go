//go:build interop

package interop

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const compareWorkerData = `
import json
from cloud_tasks.worker import WorkerData as RMS
from ctworker import WorkerData
rms, ours = set(vars(RMS())), set(vars(WorkerData())) | set(WorkerData.__annotations__)
print(json.dumps({"missing": sorted(rms - ours), "additional": sorted(ours - rms)}))
`

// workerData compares the attributes of WorkerData in both systems. The additional attributes of
// ctworker must be those in docs/porting.md.
func (s *system) workerData(t *testing.T) {
	var got struct{ Missing, Additional []string }
	output := s.run(t, t.TempDir(), nil, s.python, "-c", compareWorkerData)
	if err := json.Unmarshal([]byte(output), &got); err != nil {
		t.Fatalf("%v in the output %q", err, output)
	}
	if len(got.Missing) > 0 {
		t.Errorf("WorkerData has no %s", strings.Join(got.Missing, ", "))
	}
	_, text, _ := strings.Cut(read(t, filepath.Join("..", "..", "docs", "porting.md")), "`WorkerData` has the additional attributes")
	text, _, _ = strings.Cut(text, ".\n")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(text, -1) {
		documented[m[1]] = true
	}
	if want := slices.Sorted(maps.Keys(documented)); !slices.Equal(got.Additional, want) {
		t.Errorf("WorkerData has the additional attributes %q, docs/porting.md %q", got.Additional, want)
	}
}
