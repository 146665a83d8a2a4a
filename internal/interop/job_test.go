//go:build interop

package interop

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// job is a job that both systems know by the same names.
type job struct {
	*system
	t        *testing.T
	provider string // AWS or GCP
	id       string
	project  string
	dir      string
	config   string   // path of the manager's configuration
	machine  []string // environment variables that make this machine look like an instance of the provider
	env      []string // the variables in machine, and the RMS_CLOUD_TASKS_ variables of the job
}

// newJob returns a job of a provider. lines are added to the provider's section of the manager's
// configuration. The queues of the job do not exist yet.
func (s *system) newJob(t *testing.T, provider string, lines ...string) *job {
	t.Helper()
	j := &job{system: s, t: t, provider: provider, id: "j" + strings.ToLower(rand.Text()[:12]), dir: t.TempDir()}
	section := []string{"job_id: " + j.id, "max_runtime: 30"}
	j.machine = []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://" + s.metadata}
	if provider == "GCP" {
		j.machine = []string{"GCE_METADATA_HOST=" + s.metadata}
	}
	j.env = append(slices.Clone(j.machine), "RMS_CLOUD_TASKS_PROVIDER="+provider, "RMS_CLOUD_TASKS_JOB_ID="+j.id)
	if provider == "GCP" {
		j.project = "p-" + strings.ToLower(rand.Text()[:12])
		section = append(section, "project_id: "+j.project)
		j.env = append(j.env, "RMS_CLOUD_TASKS_PROJECT_ID="+j.project)
	}
	j.config = filepath.Join(j.dir, "manager.yml")
	name := strings.ToLower(provider)
	write(t, j.config, fmt.Sprintf("provider: %s\n%s:\n  %s\n", name, name, strings.Join(append(section, lines...), "\n  ")))
	return j
}

// manage runs a command of the manager.
func (j *job) manage(command string, args ...string) string {
	j.t.Helper()
	return j.startManager(command, args...).wait(0)
}

func (j *job) startManager(command string, args ...string) *command {
	j.t.Helper()
	all := append([]string{command, "--config", j.config}, args...)
	if j.provider == "GCP" {
		return j.start(j.t, j.dir, nil, j.python, append([]string{filepath.Join(j.testdata, "manager.py")}, all...)...)
	}
	return j.start(j.t, j.dir, nil, j.manager, all...)
}

// load makes the manager load the tasks in tasks.json.
func (j *job) load(args ...string) {
	j.t.Helper()
	j.manage("load_queue", append([]string{"--task-file", "tasks.json", "--force"}, args...)...)
}

// tasks writes tasks.json with one task for each element of orders, and returns the number of
// tasks. Each order selects the outcome that testdata/worker.py gives its task.
func (j *job) tasks(orders ...string) int {
	j.t.Helper()
	type data struct {
		Do string `json:"do"`
	}
	type task struct {
		ID   string `json:"task_id"`
		Data data   `json:"data"`
	}
	all := []task{}
	for i, do := range orders {
		all = append(all, task{fmt.Sprintf("%s-%d", do, i), data{do}})
	}
	write(j.t, filepath.Join(j.dir, "tasks.json"), encode(j.t, all))
	return len(all)
}

// runCtworker runs a command of ctworker on the job.
func (j *job) runCtworker(args ...string) string {
	j.t.Helper()
	return j.start(j.t, j.dir, j.env, j.ctworker, args...).wait(0)
}

// work runs our worker with the program testdata/worker.py, and waits until it exits.
func (j *job) work(args ...string) {
	j.t.Helper()
	j.run(j.t, j.dir, j.env, j.python, append([]string{"-m", "ctworker", filepath.Join(j.testdata, "worker.py")}, args...)...)
}

// collect returns the events that are in the queue.
func (j *job) collect(args ...string) []event {
	j.t.Helper()
	return parse(j.t, j.runCtworker(append([]string{"events", "--idle-timeout", "2"}, args...)...))
}

// monitor runs the manager's event monitor until every task has ended, and returns its
// database and the events that it wrote.
func (j *job) monitor(args ...string) (db *database, events []event) {
	j.t.Helper()
	path := filepath.Join(j.dir, j.id+".db")
	out := j.manage("monitor_event_queue", append([]string{"--db-file", path, "--output-file", "monitored.jsonl"}, args...)...)
	if !strings.Contains(out, "Monitoring stopped") {
		j.t.Errorf("the event monitor printed:\n%s", out)
	}
	return j.database(), parse(j.t, read(j.t, filepath.Join(j.dir, "monitored.jsonl")))
}

// database is the content of the manager's database.
type database struct {
	Status map[string]int   `json:"status"` // number of tasks by status
	Events map[string]int   `json:"events"` // number of events by type
	Tasks  []map[string]any `json:"tasks"`
}

const readDatabase = `
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.row_factory = sqlite3.Row
print(json.dumps({
    "status": dict(map(tuple, db.execute("SELECT status, count(*) FROM tasks GROUP BY status"))),
    "events": dict(map(tuple, db.execute("SELECT event_type, count(*) FROM events GROUP BY event_type"))),
    "tasks": [dict(row) for row in db.execute("SELECT * FROM tasks ORDER BY task_id")],
}))
`

func (j *job) database() *database {
	j.t.Helper()
	var db database
	out := j.run(j.t, j.dir, nil, j.python, "-c", readDatabase, filepath.Join(j.dir, j.id+".db"))
	if err := json.Unmarshal([]byte(out), &db); err != nil {
		j.t.Fatal(err)
	}
	return &db
}

// stop interrupts a process as a user does, and waits for its exit code.
func (c *command) stop(signal syscall.Signal, code int) string {
	c.t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		c.t.Error(err)
	}
	return c.wait(code)
}
