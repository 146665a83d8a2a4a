package ctworker

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/sdk"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// WorkerData has a field for each attribute of the task protocol, in the same order, with the same
// name, and with the type that users of the Go SDK expect.
func TestWorkerData_HasAttributesOfProtocol(t *testing.T) {
	t.Parallel()
	var got []reflect.StructField
	of := reflect.TypeFor[WorkerData]()
	for i := range of.NumField() {
		if name := of.Field(i).Tag.Get("json"); name != "" && name != "-" {
			got = append(got, of.Field(i))
		}
	}
	declared := reflect.TypeFor[taskproto.WorkerData]()
	if len(got) != declared.NumField() {
		t.Errorf("%d attributes, want %d", len(got), declared.NumField())
	}
	for i := range min(len(got), declared.NumField()) {
		field, want := got[i], declared.Field(i)
		name, wantName := field.Tag.Get("json"), want.Tag.Get("json")
		if field.Name != want.Name || name != wantName || field.Type != sdkType(want.Type) {
			t.Errorf("field %s %v of attribute %s, want %s %v of attribute %s", field.Name, field.Type, name, want.Name, sdkType(want.Type), wantName)
		}
	}
}

// sdkType returns the type that an attribute of type declared has in the Go SDK. A string that may be
// null has the type string, and a number of seconds has the type time.Duration.
func sdkType(declared reflect.Type) reflect.Type {
	switch declared {
	case reflect.TypeFor[*string]():
		return reflect.TypeFor[string]()
	case reflect.TypeFor[taskproto.Seconds](), reflect.TypeFor[taskproto.FloatSeconds]():
		return reflect.TypeFor[time.Duration]()
	case reflect.TypeFor[*taskproto.FloatSeconds]():
		return reflect.TypeFor[*time.Duration]()
	}
	return declared
}

func TestWorkerData_HasValuesOfProtocol(t *testing.T) {
	t.Parallel()
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
