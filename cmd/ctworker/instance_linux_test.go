package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// metadataServer simulates the metadata services of EC2 and Compute Engine. The parameter more maps
// further paths to functions that return the response. An empty response means "not found".
func metadataServer(t *testing.T, more map[string]func() string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers := map[string]string{
			"PUT /latest/api/token": "token", "GET /latest/meta-data/instance-id": "i-0123", "GET /latest/meta-data/placement/availability-zone": "us-east-1a", "GET /latest/meta-data/instance-type": "m5.large",
			"GET /computeMetadata/v1/instance/name": "worker-7", "GET /computeMetadata/v1/instance/zone": "projects/1/zones/europe-west1-b", "GET /computeMetadata/v1/instance/machine-type": "projects/1/machineTypes/n2-standard-4",
		}
		answer, ok := answers[r.Method+" "+r.URL.Path]
		if f := more[r.URL.Path]; f != nil {
			answer = f()
			ok = answer != ""
		}
		switch {
		case !ok, strings.HasPrefix(r.URL.Path, "/computeMetadata") && r.Header.Get("Metadata-Flavor") != "Google",
			strings.HasPrefix(r.URL.Path, "/latest/meta-data") && r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// The worker data of tasks and the keep_alive events contain the names of the instance and of its zone.
func TestInstance(t *testing.T) { onEach(t, instanceCase) }

func instanceCase(t *testing.T, j *job) {
	url := metadataServer(t, nil)
	var vars []string
	for _, v := range j.vars {
		if !strings.HasPrefix(v, "AWS_EC2_METADATA_DISABLED") {
			vars = append(vars, v)
		}
	}
	if j.vars = append(vars, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+url); j.name != "SQS" {
		j.vars = append(vars, "GCE_METADATA_HOST="+strings.TrimPrefix(url, "http://"))
	}
	want := map[string]string{"SQS": `"instance_id":"i-0123","zone":"us-east-1a"`, "PubSub": `"instance_id":"worker-7","zone":"europe-west1-b"`}[j.name]
	kind := map[string]string{"SQS": `"instance_type":"m5.large"`, "PubSub": `"instance_type":"n2-standard-4"`}[j.name]
	// The hello message of a worker process contains the worker data.
	script := strings.Replace(shellWorker, "echo '{", `case $hello in *'`+kind+`'*'`+want+`'*) seen=true ;; *) seen=false ;; esac; echo '{`, 1)
	// run reports whether the task and the last keep_alive event have the name of the instance.
	run := func() bool {
		task, keepAlive := false, false
		j.load(1)
		j.do(app.ExitOK, "run", "--isolation", "reuse", "--idle-timeout", "1.5", "--keepalive-interval", "0.3", "--", "sh", "-c", script, "sh", "result=$seen")
		count := 0
		for _, e := range j.readAllEvents() {
			b, err := json.Marshal(e)
			switch {
			case err != nil:
				t.Error(err)
			case e["event_type"] == "keep_alive":
				count++
				keepAlive = !slices.ContainsFunc(strings.Split(want, ","), func(part string) bool { return !strings.Contains(string(b), part) })
			default:
				task = e["result"] == true
			}
		}
		if count == 0 {
			t.Error("no keep_alive event")
		}
		return task && keepAlive
	}
	// maxRuns limits the repetitions. A worker waits only briefly for the metadata service, so a
	// task or an event on a busy machine may lack the name of the instance.
	const maxRuns = 10
	for n := 1; !run(); n++ {
		if n == maxRuns {
			t.Fatalf("the name of the instance did not reach a task and a keep_alive event in any of %d runs", maxRuns)
		}
	}
}
