package apisurface_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/procexec"
	"github.com/ctworker/ctworker/sinks/eventlog"
	pubsubsink "github.com/ctworker/ctworker/sinks/pubsub"
	sqssink "github.com/ctworker/ctworker/sinks/sqs"
	pubsubsource "github.com/ctworker/ctworker/sources/pubsub"
	sqssource "github.com/ctworker/ctworker/sources/sqs"
	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/sources/taskfile/remote"
	"github.com/ctworker/ctworker/stages"
)

// Every options type of a public package is valid if only the required fields are set. Validate
// lists all negative numbers in one error.
func TestOptions_Validate(t *testing.T) {
	t.Parallel()
	argv := []string{"true"}
	for _, valid := range []interface{ Validate() error }{
		pipeline.Options{}, stages.ExtendOptions{}, stages.RetryOptions{}, stages.SettleOptions{},
		procexec.Options{}, procexec.CommandOptions{Argv: argv}, procexec.PoolOptions{Argv: argv},
		eventlog.Options{}, sqssink.Options{Queue: "q"}, pubsubsink.Options{Queue: "q"},
		sqssource.Options{Queue: "q"}, pubsubsource.Options{Queue: "q"}, taskfile.Options{}, remote.Options{},
	} {
		name := fmt.Sprintf("%T", valid)
		if err := valid.Validate(); err != nil {
			t.Errorf("%s: valid options: %v", name, err)
		}
		negative := reflect.New(reflect.TypeOf(valid)).Elem()
		negative.Set(reflect.ValueOf(valid))
		var fields []string
		for i := range negative.NumField() {
			if f := negative.Field(i); f.CanInt() && f.CanSet() && !strings.HasSuffix(negative.Type().Field(i).Name, "Size") {
				f.SetInt(-1)
				fields = append(fields, negative.Type().Field(i).Name)
			}
		}
		invalid, _ := negative.Interface().(interface{ Validate() error }) // it has the type of valid
		err := invalid.Validate()
		for _, field := range fields {
			if err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("%s with %s -1: error %v", name, field, err)
			}
		}
	}
	for _, tc := range []struct {
		options interface{ Validate() error }
		want    string
	}{
		{sqssource.Options{}, "sqs.Options: Queue is empty: it is required"},
		{procexec.PoolOptions{}, "procexec.PoolOptions: Argv is empty: it is required"},
		{procexec.Options{Dir: "run"}, `procexec.Options: Dir is "run": it must be an absolute path`},
		{taskfile.Options{MaxTaskSize: -1}, "taskfile.Options: MaxTaskSize is -1: it must not be negative"},
		{sqssource.Options{Queue: "q", Lease: 1}, "sqs.Options: Lease is 1ns: it must be from 1s to 12h0m0s"},
	} {
		if err := tc.options.Validate(); err == nil || err.Error() != tc.want {
			t.Errorf("%T: error %v, want %s", tc.options, err, tc.want)
		}
	}
}
