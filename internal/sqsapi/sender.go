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

// A Message is a message for a Sender.
type Message struct {
	// Body may contain only characters that SQS accepts. Use Text to convert JSON.
	Body string
	// TaskID, if set, is the value of the message attribute TaskId. The attribute is omitted if the
	// id contains characters that SQS does not accept.
	TaskID string
	// Group is the message group id, and Key the deduplication id. They are used only for FIFO
	// queues. SQS delivers the messages of a group in order, and drops a message whose Key was
	// already sent in the last five minutes.
	Group, Key string
	// Withheld, if set, is called before each attempt to send the message. If it returns true, the
	// message is not sent, and Send returns nil.
	Withheld func() bool
}

// A Sender sends messages in batches.
type Sender struct {
	queue   *Queue
	limit   int
	fifo    bool
	batcher *batch.Batcher[Message]
}

// ErrSenderClosed is returned by Send and SendAll after Close.
var ErrSenderClosed = errors.New("sqs: the sender is closed")

// NewSender returns a Sender for q. limit is the maximum size of a message in bytes. linger is how
// long a message waits for other messages, because one request can send several of them. A linger
// of 0 means 10 ms.
func NewSender(q *Queue, limit int, linger time.Duration) *Sender {
	s := &Sender{queue: q, limit: limit, fifo: q.IsFIFO()}
	s.batcher = batch.New(batch.Options[Message]{MaxItems: MaxBatchSize, MaxBytes: MaxMessageBytes, Size: sizeOf, Linger: linger}, s.send)
	return s
}

// sizeOf returns the size that SQS compares with its limits: the size of the body, and of the
// names, types and values of the attributes (AWS: Amazon SQS message quotas).
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

// Check returns an error that wraps ErrTooLarge if the message is too large for the queue.
func (s *Sender) Check(m Message) error {
	if n := sizeOf(m); n > s.limit {
		return tooLargeError(n, s.limit)
	}
	return nil
}

// Send sends a message, and waits until SQS has stored it. Send retries transient errors until ctx
// ends.
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

// SendAll sends messages, and waits until SQS has stored all of them. It retries like Send, and
// returns the first error.
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
	var at []int // for each entry of the request, its index in messages
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

// Close sends the messages that wait for a batch. Later calls of Send return ErrSenderClosed.
func (s *Sender) Close(ctx context.Context) { s.batcher.Close(ctx) }

// token converts text to a valid group or deduplication id, which has 1 to 128 printable ASCII
// characters without spaces. It replaces any other text by its hash. Source: AWS, SendMessage,
// MessageGroupId and MessageDeduplicationId.
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

// isText reports whether SQS accepts text. SQS accepts only the characters that XML 1.0 allows.
func isText(text string) bool {
	for _, r := range text {
		switch {
		case r == '\t' || r == '\n' || r == '\r', r >= ' ' && r < utf8.RuneError, r > utf8.RuneError && r != 0xfffe && r != 0xffff:
		default: // U+FFFD is what range yields for invalid UTF-8
			return false
		}
	}
	return true
}

// Text converts JSON to text that SQS accepts. It replaces invalid UTF-8 by U+FFFD. It escapes
// U+FFFE and U+FFFF, because XML 1.0 does not allow them; in JSON, they can occur only in strings.
// Control characters need no conversion, because JSON already escapes them.
func Text(json []byte) string {
	return escape.Replace(strings.ToValidUTF8(string(json), "\ufffd"))
}

var escape = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)
