package taskfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// An integer task_id becomes a string of its digits, whatever their number.
func TestSource_IntegerTaskIDs(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"t.json":  `[{"task_id":5,"data":0},{"data":1,"task_id":-7},{"task_id":123456789012345678901234,"data":2}]`,
		"t.jsonl": `{"task_id":5,"data":0}` + "\n" + `{"task_id":-7,"data":1}` + "\n" + `{"task_id":123456789012345678901234,"data":2}`,
		"t.yaml":  "- task_id: 5\n  data: 0\n- data: 1\n  task_id: -7\n- {task_id: 123456789012345678901234, data: 2}\n",
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t, path, taskfile.Options{})
		if err != nil || len(got) != 3 || got[0].id != "5" || got[1].id != "-7" || got[2].id != "123456789012345678901234" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
