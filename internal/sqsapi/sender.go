package sqsapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/batch"
	"github.com/ctworker/ctworker/internal/retry"
)

// A Message is what a Sender sends.
type Message struct {
	// Body is text that SQS takes; see Text.
	Body string
	// TaskID, if set, is the attribute of that name; one that SQS does not take as text
	// is left out.
	TaskID string
	// Group and Key are for queues that deliver exactly once: the messages of a group
	// come in order, and one whose key was in it within five minutes is dropped.
	Group, Key string
	// Withheld, if set, is called before each attempt to send the message. If it returns
	// true, the message is not sent, and counts as sent.
	Withheld func() bool
}

// A Sender sends messages in batches.
type Sender struct {
	queue   *Queue
	limit   int
	fifo    bool
	batcher *batch.Batcher[Message]
}

// ErrSenderClosed says that the Sender was closed.
var ErrSenderClosed = errors.New("sqs: the sender is closed")

// NewSender returns a sender to a queue that takes messages of limit bytes. A message
// waits linger for others to go with it; default 10 ms.
func NewSender(q *Queue, limit int, linger time.Duration) *Sender {
	s := &Sender{queue: q, limit: limit, fifo: q.IsFIFO()}
	s.batcher = batch.New(batch.Options[Message]{MaxItems: MaxBatchSize, MaxBytes: MaxMessageBytes, Size: sizeOf, Linger: linger}, s.send)
	return s
}

// sizeOf is what counts against the limits: the body, and the attributes' names,
// types and values (AWS: Amazon SQS message quotas).
func sizeOf(m Message) int {
	n := len(m.Body)
	if m.TaskID != "" {
		n += len(taskIDName) + len(stringType) + len(m.TaskID)
	}
	return n
}

const (
	taskIDName = "TaskId"
	stringType = "String"
)

// Check says where a message is larger than the queue takes.
func (s *Sender) Check(m Message) error {
	if n := sizeOf(m); n > s.limit {
		return tooLargeError(n, s.limit)
	}
	return nil
}

// Send sends a message, and returns once SQS has it. What another try can mend is
// tried until ctx ends.
func (s *Sender) Send(ctx context.Context, m Message) error {
	if err := s.Check(m); err != nil {
		return err
	}
	err := Retry(ctx, RetryOptions{Action: "SendMessage", Final: batch.ErrClosed, Reporter: s.queue.reporter}, func() error { return s.batcher.Do(ctx, m) })
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, batch.ErrClosed):
		return ErrSenderClosed
	}
	return DescribeError("SendMessage", s.queue.Name, err)
}

// SendAll sends messages, and returns once SQS has them all, or one cannot be sent; see
// Send.
func (s *Sender) SendAll(ctx context.Context, messages []Message) error {
	for _, m := range messages {
		if err := s.Check(m); err != nil {
			return err
		}
	}
	on := make([]batch.Pending[Message], len(messages))
	for i, m := range messages {
		on[i] = s.batcher.Put(m)
	}
	return retry.All(len(messages), func(i int) error {
		return on[i].Wait(ctx)
	}, func(i int) error { return s.Send(ctx, messages[i]) })
}

func (s *Sender) send(ctx context.Context, messages []Message) []error {
	in := sqs.SendMessageBatchInput{QueueUrl: &s.queue.URL}
	var at []int // the index in messages of each entry
	for i, m := range messages {
		if m.Withheld != nil && m.Withheld() {
			continue
		}
		entry := types.SendMessageBatchRequestEntry{Id: EntryID(len(at)), MessageBody: &m.Body}
		at = append(at, i)
		if m.TaskID != "" && isText(m.TaskID) {
			entry.MessageAttributes = map[string]types.MessageAttributeValue{
				taskIDName: {DataType: aws.String(stringType), StringValue: &m.TaskID},
			}
		}
		if s.fifo {
			entry.MessageGroupId, entry.MessageDeduplicationId = token(m.Group), token(m.Key)
		}
		in.Entries = append(in.Entries, entry)
	}
	if len(at) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	var results []error
	if out, err := s.queue.client.SendMessageBatch(ctx, &in); err != nil {
		results = RepeatError(len(at), err)
	} else {
		id := func(e types.SendMessageBatchResultEntry) *string { return e.Id }
		results = BatchErrors(len(at), out.Successful, id, out.Failed)
	}
	errs := make([]error, len(messages))
	for n, i := range at {
		errs[i] = results[n]
	}
	return errs
}

// Close sends what is on its way. Send then fails.
func (s *Sender) Close(ctx context.Context) { s.batcher.Close(ctx) }

// token is text as SQS takes it for a group and a deduplication id: up to 128 letters,
// digits and signs of ASCII. What is none is told by its hash.
// Source: AWS, SendMessage, MessageGroupId and MessageDeduplicationId.
func token(text string) *string {
	plain := len(text) > 0 && len(text) <= 128
	for i := 0; plain && i < len(text); i++ {
		plain = text[i] > ' ' && text[i] <= '~'
	}
	if !plain {
		sum := sha256.Sum256([]byte(text))
		text = hex.EncodeToString(sum[:])
	}
	return &text
}

// isText reports whether SQS takes it: characters of XML 1.0.
func isText(text string) bool {
	for _, r := range text {
		switch {
		case r == '\t' || r == '\n' || r == '\r', r >= ' ' && r < utf8.RuneError, r > utf8.RuneError && r != 0xfffe && r != 0xffff:
		default: // U+FFFD also stands for what is not UTF-8
			return false
		}
	}
	return true
}

// Text is JSON in the characters that SQS takes: XML 1.0 knows no U+FFFE and U+FFFF,
// and JSON no character that cannot be escaped within a string. What is below a space
// JSON has escaped already. What is not UTF-8 becomes U+FFFD.
func Text(json []byte) string {
	return escape.Replace(strings.ToValidUTF8(string(json), "\ufffd"))
}

var escape = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)
