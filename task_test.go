package ctworker

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// oncePanic is a value that cannot be encoded. Its method panics in the second call.
type oncePanic struct{ called *bool }

func (p oncePanic) MarshalJSON() ([]byte, error) {
	if *p.called {
		panic("called twice")
	}
	*p.called = true
	return nil, errors.New("not today")
}

func TestNewTask_ReportsPathOfFault(t *testing.T) {
	t.Parallel()
	type inner struct {
		Named chan int `json:"name"`
	}
	cycle := map[string]any{}
	cycle["self"] = cycle
	for _, tc := range []struct {
		name string
		data any
		want string
	}{
		{"nested", map[string]any{"A": time.Second, "B": "\xff", "a": []any{1, map[string]any{"b": math.NaN()}}}, `NaN at "/a/1/b"`},
		{"field", []inner{{}}, `unsupported type: chan int at "/0/name"`},
		{"slash in a key", map[string]any{"a/b": math.Inf(1)}, `+Inf at "/a~1b"`},
		{"whole value", make(chan int), `unsupported type: chan int`},
		{"long key", map[string]any{strings.Repeat("k", 300): func() {}}, strings.Repeat("k", 199) + `" and below`},
		{"cycle", cycle, `/self/self" and below`},
		{"panic in the second call", []any{oncePanic{new(bool)}}, "not today"},
	} {
		_, err := NewTask("t", tc.data)
		if err == nil || !strings.HasPrefix(err.Error(), `data of task "t": json: `) || !strings.HasSuffix(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}
