package procexec

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A fifo returns items in the same order as a slice. It does not keep removed items in memory.
func TestFIFO_BehavesLikeSlice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q fifo[*int]
		var model []*int
		t.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) {
				item := new(int)
				q.push(item)
				model = append(model, item)
			},
			"pop": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				if q.pop() != model[0] {
					t.Fatal("pop returned the wrong item")
				}
				model = model[1:]
			},
			"takeLast": func(t *rapid.T) {
				n := rapid.IntRange(0, len(model)).Draw(t, "n")
				if got := q.takeLast(n); !slices.Equal(got, model[len(model)-n:]) {
					t.Fatalf("takeLast(%d) returned the wrong items", n)
				}
				model = model[:len(model)-n]
			},
			"": func(t *rapid.T) {
				if q.len() != len(model) || !slices.Equal(q.list(), model) {
					t.Fatalf("%v, want %v", q.list(), model)
				}
				if len(model) > 0 && *q.first() != model[0] {
					t.Fatal("first returned the wrong item")
				}
				for _, item := range q.items[:q.head] {
					if item != nil {
						t.Fatal("an item removed by pop is still in memory")
					}
				}
				for _, item := range q.items[len(q.items):cap(q.items)] {
					if item != nil {
						t.Fatal("an item removed by takeLast is still in memory")
					}
				}
			},
		})
	})
}

// A fifo whose length is limited does not allocate memory, however many items pass through it.
func TestFIFO_ReusesMemory(t *testing.T) {
	var q fifo[int]
	allocs := testing.AllocsPerRun(10, func() {
		for i := range 1000 {
			q.push(i)
			if q.len() > 64 {
				q.pop()
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations for 1000 items", allocs)
	}
}
