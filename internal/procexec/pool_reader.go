package procexec

import (
	"errors"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// A replyBatch holds lines that a process has written and that the loop has not handled yet. The
// goroutine of loop.read fills the batch, and the loop returns the batch to this goroutine for
// reuse. Each process has two batches, so that the goroutine can fill one batch while the loop
// handles the other.
type replyBatch struct {
	replies []reply
	ids     []byte // copies of the ids of all replies, because the buffer of the lines is reused
	err     error  // why reading ended after these replies
}

// reply is one line that a process wrote.
type reply struct {
	taskproto.Reply
	id      []byte // a part of replyBatch.ids
	tooLong bool   // the line exceeds the limit, and only its beginning was read
	at      time.Time
}

// maxBatchReplies is the maximum number of replies in a batch. It limits how long the loop is busy
// with one process.
const maxBatchReplies = 64

// fill reads at least one line, and then the lines that have already arrived.
func (b *replyBatch) fill(conn *taskproto.EngineConn) {
	clear(b.replies)
	b.replies, b.ids, b.err = b.replies[:0], b.ids[:0], nil
	for {
		line, err := conn.Next()
		if err != nil && !errors.Is(err, taskproto.ErrLineTooLong) {
			b.err = err
			break
		}
		if !b.add(line, err != nil) || len(b.replies) == maxBatchReplies || !conn.HasLine() {
			break
		}
	}
	from := 0
	for i := range b.replies { // only now, because append may have moved ids in memory
		r := &b.replies[i]
		r.id = b.ids[from : from+len(r.ID)]
		from += len(r.ID)
	}
}

// add parses a line and adds it to the batch. It returns false if the line violates the task
// protocol.
func (b *replyBatch) add(line []byte, tooLong bool) bool {
	r := reply{tooLong: tooLong, at: time.Now()}
	var err error
	if tooLong {
		err = taskproto.CheckTruncatedReply(line)
	} else {
		r.Reply, err = taskproto.ParseReply(line)
	}
	if err != nil {
		b.err = newProtocolError(line, err)
		return false
	}
	b.ids = append(b.ids, r.ID...)
	b.replies = append(b.replies, r)
	return true
}
