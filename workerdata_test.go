package ctworker

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/sdk"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// WorkerData has a field for each attribute of the task protocol, in the same order, and the decoded
// values are those that were sent.
func TestWorkerData_MatchesProtocol(t *testing.T) {
	t.Parallel()
	names := func(of reflect.Type) (all []string) {
		for i := range of.NumField() {
			if name := of.Field(i).Tag.Get("json"); name != "" && name != "-" {
				all = append(all, name)
			}
		}
		return all
	}
	if got, want := names(reflect.TypeFor[WorkerData]()), names(reflect.TypeFor[taskproto.WorkerData]()); !reflect.DeepEqual(got, want) {
		t.Errorf("attributes\n%q, want\n%q", got, want)
	}
	text, cpus, price, limit := "x", 3, 0.25, int64(1<<53+1)
	after := taskproto.FloatSeconds(1500 * time.Millisecond)
	sent := taskproto.WorkerData{
		Provider: &text, ExactlyOnceQueue: true, NumCPUs: &cpus, PricePerHour: &price, MaxNumTasks: &limit,
		KeepaliveInterval: taskproto.FloatSeconds(time.Minute), MaxRuntime: taskproto.Seconds(90 * time.Second), SimulateSpotTerminationAfter: &after,
	}
	b, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := newWorkerData(sdk.WorkerInfo{JSON: b, Slot: 2})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := decoded.(*WorkerData)
	if d.Provider != "x" || d.JobID != "" || !d.ExactlyOnceQueue || *d.NumCPUs != 3 || *d.PricePerHour != 0.25 || *d.MaxNumTasks != limit || d.MemoryGB != nil ||
		d.KeepaliveInterval != time.Minute || d.MaxRuntime != 90*time.Second || *d.SimulateSpotTerminationAfter != 1500*time.Millisecond || d.SimulateSpotTerminationDelay != nil || d.Slot != 2 {
		t.Errorf("%+v from %s", d, b)
	}
	if _, err := newWorkerData(sdk.WorkerInfo{JSON: []byte(`{"num_cpus": "three"}`)}); err == nil {
		t.Error("an attribute of the wrong type was accepted")
	}
}
