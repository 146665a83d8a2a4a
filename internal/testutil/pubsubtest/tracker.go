package pubsubtest

import (
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2/apierror"
)

// tracker tracks the messages in the subscriptions that were created through the Proxy. It knows
// only about requests that went through the Proxy.
type tracker struct {
	sent          map[string][]string      // message ids by topic
	subscriptions map[string]*subscription // by name
}

// subscription is the state of one subscription.
type subscription struct {
	topic    string
	deadline time.Duration
	done     map[string]bool      // message ids that are acknowledged
	until    map[string]time.Time // ack deadlines by message id
	message  map[string]string    // message ids by ack id
	ackID    map[string]string    // latest ack ids by message id
}

func newTracker() tracker { return tracker{map[string][]string{}, map[string]*subscription{}} }

func (l *tracker) addSubscription(s *pubsubpb.Subscription) {
	l.subscriptions[s.GetName()] = &subscription{
		topic: s.GetTopic(), deadline: time.Duration(s.GetAckDeadlineSeconds()) * time.Second,
		done: map[string]bool{}, until: map[string]time.Time{}, message: map[string]string{}, ackID: map[string]string{},
	}
}

// purge marks all messages as acknowledged, as after a seek to the current time.
func (l *tracker) purge(subscription string) {
	if b := l.subscriptions[subscription]; b != nil {
		for _, id := range l.sent[b.topic] {
			b.done[id] = true
		}
	}
}

func (l *tracker) addMessages(topic string, ids []string) {
	l.sent[topic] = append(l.sent[topic], ids...)
}

func (l *tracker) addPull(subscription string, m *pubsubpb.ReceivedMessage) {
	b := l.subscriptions[subscription]
	if b == nil {
		return
	}
	id := m.GetMessage().GetMessageId()
	b.message[m.GetAckId()], b.ackID[id] = id, m.GetAckId()
	b.until[id] = time.Now().Add(b.deadline)
}

// acknowledge records the acknowledged messages of a request. If err lists ack ids that failed, the
// acknowledgments of all other ids succeeded.
func (l *tracker) acknowledge(subscription string, ids []string, err error) {
	b := l.subscriptions[subscription]
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

func (l *tracker) modifyDeadline(subscription string, ids []string, after time.Duration) {
	b := l.subscriptions[subscription]
	if b == nil {
		return
	}
	for _, id := range ids {
		if m := b.message[id]; b.ackID[m] == id {
			b.until[m] = time.Now().Add(after)
		}
	}
}

// Depth contains the number of messages in a subscription that can be pulled, and the number of messages in
// flight.
type Depth struct{ Visible, InFlight int }

// Depth returns the Depth of a subscription that was created through the Proxy.
func (p *Proxy) Depth(subscription string) (d Depth) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.subscriptions[subscription]
	if b == nil {
		return d
	}
	now := time.Now()
	for _, id := range p.sent[b.topic] {
		switch {
		case b.done[id]:
		case b.until[id].After(now):
			d.InFlight++
		default:
			d.Visible++
		}
	}
	return d
}
