package procexec

// fifo is a queue that keeps its memory. The zero value is empty.
type fifo[T any] struct {
	items []T // the taken ones first, which are zero
	taken int
}

func (q *fifo[T]) len() int { return len(q.items) - q.taken }

// list is what is in the queue, oldest first; it is valid until the next change.
func (q *fifo[T]) list() []T { return q.items[q.taken:] }

func (q *fifo[T]) first() *T { return &q.items[q.taken] }

func (q *fifo[T]) push(item T) {
	if len(q.items) == cap(q.items) && q.taken > len(q.items)/2 {
		n := copy(q.items, q.list())
		clear(q.items[n:])
		q.items, q.taken = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) pop() T {
	var none T
	item := q.items[q.taken]
	q.items[q.taken] = none
	if q.taken++; q.taken == len(q.items) {
		q.items, q.taken = q.items[:0], 0
	}
	return item
}

// cut takes the n youngest out and returns a copy of them, oldest first.
func (q *fifo[T]) cut(n int) []T {
	keep := len(q.items) - n
	out := append([]T(nil), q.items[keep:]...)
	clear(q.items[keep:])
	if q.items = q.items[:keep]; keep == q.taken {
		q.items, q.taken = q.items[:0], 0
	}
	return out
}
