package procexec

// fifo is a queue that reuses its memory. The zero value is an empty queue.
type fifo[T any] struct {
	items []T // the queue is items[head:]; the items before head have been removed and are zero
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

// list returns the items in the queue, oldest first. The slice is valid until the queue changes.
func (q *fifo[T]) list() []T { return q.items[q.head:] }

// first returns the oldest item. The queue must not be empty.
func (q *fifo[T]) first() *T { return &q.items[q.head] }

func (q *fifo[T]) push(item T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.list())
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

// pop removes and returns the oldest item. The queue must not be empty.
func (q *fifo[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item
}

// takeLast removes the n newest items and returns a copy of them, oldest first.
func (q *fifo[T]) takeLast(n int) []T {
	keep := len(q.items) - n
	out := append([]T(nil), q.items[keep:]...)
	clear(q.items[keep:])
	if q.items = q.items[:keep]; keep == q.head {
		q.items, q.head = q.items[:0], 0
	}
	return out
}
