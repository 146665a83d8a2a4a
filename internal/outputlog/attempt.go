package outputlog

import (
	"sync"
	"time"
)

// An Attempt records the output of one attempt of a task. Its methods are safe for concurrent use.
// They block while the log cannot be written fast enough.
type Attempt struct {
	log           *Log
	taskID        string
	attempt, slot int
	uncertain     bool

	mu    sync.Mutex
	ended bool
	head  int64 // bytes written to the head
	full  bool  // the head is complete, so further lines go to the tail
	tail  tail
	files *attemptFiles // nil without Options.Dir
	now   func() time.Time
}

// Attempt returns a recorder for one attempt of a task. An empty taskID stands for output that a
// process prints while it runs no task. Call End when the attempt has ended. If uncertain is true,
// the lines may belong to a neighboring task.
func (l *Log) Attempt(taskID string, attempt, slot int, uncertain bool) *Attempt {
	a := &Attempt{log: l, taskID: taskID, attempt: attempt, slot: slot, uncertain: uncertain, now: time.Now}
	if l.opts.Dir != "" && taskID != "" {
		a.files = &attemptFiles{log: l, taskID: taskID, attempt: attempt}
	}
	return a
}

// Line records a line without its line ending. continued reports that text continues the previous
// line of the stream. Line does not keep text.
func (a *Attempt) Line(stream Stream, text []byte, continued bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	r := a.record(stream)
	r.Text, r.Continued = text, continued
	line := r.append(nil)
	half := a.log.opts.MaxSize / 2
	if !a.full && a.head+int64(len(line)) <= half {
		a.head += int64(len(line))
		a.write(&r, line)
		return
	}
	a.full = true // also if a shorter line would fit, because lines must stay in order
	r.Text = append([]byte(nil), text...)
	a.tail.push(tailLine{record: r, encoded: line}, half)
}

// End writes the last lines, and ends the recording. Later lines are discarded. A second End does
// nothing.
func (a *Attempt) End() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	a.ended = true
	if a.tail.omittedLines > 0 {
		r := a.record(a.tail.omittedStream)
		r.OmittedLines, r.OmittedBytes = a.tail.omittedLines, a.tail.omittedBytes
		a.write(&r, r.append(nil))
	}
	for _, line := range a.tail.lines {
		a.write(&line.record, line.encoded)
	}
	a.tail = tail{}
	if a.files != nil {
		a.files.close()
	}
}

func (a *Attempt) record(stream Stream) Record {
	return Record{Stream: stream, TaskID: a.taskID, Attempt: a.attempt, Slot: a.slot, Uncertain: a.uncertain, Time: a.now()}
}

func (a *Attempt) write(r *Record, encoded []byte) {
	a.log.write(encoded)
	if a.files != nil {
		a.files.write(r)
	}
}

// tail holds the last lines of an attempt whose head is complete.
type tail struct {
	lines         []tailLine
	size          int64 // of the encoded lines
	omittedLines  int64
	omittedBytes  int64
	omittedStream Stream // the stream of the first omitted line
}

type tailLine struct {
	record  Record
	encoded []byte
}

// push adds a line, and omits the oldest lines beyond limit bytes.
func (t *tail) push(line tailLine, limit int64) {
	t.lines = append(t.lines, line)
	t.size += int64(len(line.encoded))
	for t.size > limit && len(t.lines) > 0 {
		oldest := t.lines[0]
		t.lines[0] = tailLine{}
		t.lines = t.lines[1:]
		t.size -= int64(len(oldest.encoded))
		if t.omittedStream == "" {
			t.omittedStream = oldest.record.Stream
		}
		if !oldest.record.Continued {
			t.omittedLines++
		}
		t.omittedBytes += int64(len(oldest.record.Text))
	}
	t.omittedLines = max(t.omittedLines, min(t.omittedBytes, 1)) // only a part of a line may be omitted
}
