package stages

import (
	"math/rand/v2"
	"testing"
)

func TestSpans_After(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var s spans
		in := map[int64]bool{}
		for range 60 {
			n := rng.Int64N(40)
			s.add(n)
			in[n] = true
			for start := range int64(41) {
				want := start
				for in[want] {
					want++
				}
				if got := s.after(start); got != want {
					t.Fatalf("seed %d: after(%d) = %d, want %d; spans %v", seed, start, got, want, s)
				}
			}
			for i := 1; i < len(s); i++ {
				if s[i-1].to >= s[i].from {
					t.Fatalf("seed %d: %v", seed, s)
				}
			}
		}
	}
}

// Two ranges are merged when the gap between them is filled.
func TestSpans_MergesRanges(t *testing.T) {
	t.Parallel()
	var s spans
	for i := int64(0); i < 100_000; i += 8 {
		for _, n := range rand.Perm(8) {
			s.add(i + int64(n))
		}
		if len(s) != 1 {
			t.Fatalf("%v", s)
		}
	}
}
