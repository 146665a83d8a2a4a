package stages

import "slices"

// spans is a set of integers. It holds the numbers of the tasks whose events were written. The
// integers are stored as disjoint ranges in ascending order. There are few ranges, because the gaps
// between them contain only tasks that are in flight or were released.
type spans []span

// span is the range of integers [from, to).
type span struct{ from, to int64 }

// add adds n, which may be in the set already.
func (s *spans) add(n int64) {
	all := *s
	if last := len(all) - 1; last >= 0 && all[last].to == n { // fast path: n follows the last range
		all[last].to++
		return
	}
	i, _ := slices.BinarySearchFunc(all, n, func(sp span, n int64) int { // the first span that does not end before n
		if sp.to < n {
			return -1
		}
		return 1
	})
	switch {
	case i < len(all) && all[i].from <= n && n < all[i].to:
	case i < len(all) && all[i].to == n:
		all[i].to++
		if i+1 < len(all) && all[i+1].from == all[i].to { // n filled the gap: merge the two spans
			all[i].to = all[i+1].to
			*s = slices.Delete(all, i+1, i+2)
		}
	case i < len(all) && all[i].from == n+1:
		all[i].from = n
	default:
		*s = slices.Insert(all, i, span{n, n + 1})
	}
}

// after returns the smallest integer >= start that is not in the set.
func (s spans) after(start int64) int64 {
	for _, sp := range s {
		if sp.from <= start && start < sp.to {
			return sp.to
		}
	}
	return start
}
