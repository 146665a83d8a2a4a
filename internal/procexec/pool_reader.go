package procexec

import (
	"errors"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// A replyBatch is what a process has written and the loop has not handled yet. The reader fills it,
// and the loop returns it to the reader, so that two batches per process are enough.
type replyBatch struct {
	replies []reply
	ids     []byte // the ids of all replies; the lines they come from are overwritten
	err     error  // why nothing more can be read, after replies
}

// reply is one line of a process.
type reply struct {
	taskproto.Reply
	id      []byte // part of ids
	tooLong bool   // only the start of the line was read; the line is a reply to the current task
	at      time.Time
}

// maxBatchReplies is the maximum number of replies in a batch.
const maxBatchReplies = 64

// fill reads the next lines: at least one, and the further ones that have arrived.
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
	for i := range b.replies { // ids does not move any more
		r := &b.replies[i]
		r.id = b.ids[from : from+len(r.ID)]
		from += len(r.ID)
	}
}

// add parses a line. It returns false if the line violates the task protocol.
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
