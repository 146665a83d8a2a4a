package pubsubtest

import (
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2/apierror"
)

// ledger knows what is in the subscriptions: those that were created through the Proxy,
// and only what went through it.
type ledger struct {
	sent  map[string][]string // ids of messages, by the topic
	books map[string]*book    // by the subscription's name
}

// book is of one subscription.
type book struct {
	topic    string
	deadline time.Duration
	done     map[string]bool      // messages that are acknowledged
	until    map[string]time.Time // messages that have been pulled, and for how long they are held
	message  map[string]string    // by the ack id
	latest   map[string]string    // the ack id of a message that is good
}

func newLedger() ledger { return ledger{map[string][]string{}, map[string]*book{}} }

func (l *ledger) created(s *pubsubpb.Subscription) {
	l.books[s.GetName()] = &book{
		topic: s.GetTopic(), deadline: time.Duration(s.GetAckDeadlineSeconds()) * time.Second,
		done: map[string]bool{}, until: map[string]time.Time{}, message: map[string]string{}, latest: map[string]string{},
	}
}

// emptied enters that nothing is left, as after a seek to now.
func (l *ledger) emptied(subscription string) {
	if b := l.books[subscription]; b != nil {
		for _, id := range l.sent[b.topic] {
			b.done[id] = true
		}
	}
}

func (l *ledger) published(topic string, ids []string) {
	l.sent[topic] = append(l.sent[topic], ids...)
}

func (l *ledger) held(subscription string, m *pubsubpb.ReceivedMessage) {
	b := l.books[subscription]
	if b == nil {
		return
	}
	id := m.GetMessage().GetMessageId()
	b.message[m.GetAckId()], b.latest[id] = id, m.GetAckId()
	b.until[id] = time.Now().Add(b.deadline)
}

// acknowledged enters those that are: where it is said of some of a request that they are
// not, the others are.
func (l *ledger) acknowledged(subscription string, ids []string, err error) {
	b := l.books[subscription]
	if b == nil {
		return
	}
	var failed map[string]string
	if err != nil {
		a, ok := apierror.FromError(err)
		if !ok || len(a.Metadata()) == 0 {
			return
		}
		failed = a.Metadata()
	}
	for _, id := range ids {
		if _, no := failed[id]; !no {
			b.done[b.message[id]] = true
		}
	}
}

func (l *ledger) modified(subscription string, ids []string, after time.Duration) {
	b := l.books[subscription]
	if b == nil {
		return
	}
	for _, id := range ids {
		if m := b.message[id]; b.latest[m] == id {
			b.until[m] = time.Now().Add(after)
		}
	}
}

// Depth is what is in a subscription: messages that can be pulled, and such that have
// been and are held by whoever has pulled them.
type Depth struct{ Waiting, Held int }

// Depth is what is in a subscription that was created through the Proxy.
func (p *Proxy) Depth(subscription string) (d Depth) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.books[subscription]
	if b == nil {
		return d
	}
	now := time.Now()
	for _, id := range p.sent[b.topic] {
		switch {
		case b.done[id]:
		case b.until[id].After(now):
			d.Held++
		default:
			d.Waiting++
		}
	}
	return d
}
