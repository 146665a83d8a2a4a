package journal_test

import (
	"fmt"
	"testing"

	"github.com/ctworker/ctworker/internal/journal"
)

func TestLatest_Add(t *testing.T) {
	t.Parallel()
	final := func(k journal.Kind, attempt int) journal.Event {
		return journal.Event{TaskID: []byte("a"), Kind: k, Attempt: attempt}
	}
	retry := func(attempt int) journal.Event {
		return journal.Event{TaskID: []byte("a"), Kind: journal.Exited, Attempt: attempt, Retry: true}
	}
	rerun := final(journal.Completed, 1)
	rerun.Rerun = true
	for name, c := range map[string]struct {
		events      []journal.Event
		want        journal.Kind
		pending     int64
		lastChanged bool
	}{
		"first":                       {[]journal.Event{final(journal.Completed, 1)}, journal.Completed, 0, true},
		"repeated":                    {[]journal.Event{final(journal.Exited, 1), final(journal.Exited, 1)}, journal.Exited, 0, false},
		"retry":                       {[]journal.Event{retry(1)}, journal.None, 1, true},
		"repeated retry":              {[]journal.Event{retry(1), retry(1)}, journal.None, 1, false},
		"second retry":                {[]journal.Event{retry(1), retry(2)}, journal.None, 1, true},
		"final after retry":           {[]journal.Event{retry(1), final(journal.Completed, 2)}, journal.Completed, 0, true},
		"retry arrives late":          {[]journal.Event{final(journal.Completed, 2), retry(1)}, journal.Completed, 0, false},
		"retry without attempt, late": {[]journal.Event{final(journal.Completed, 0), retry(0)}, journal.Completed, 0, false},
		"retry after a final event":   {[]journal.Event{final(journal.Exception, 1), retry(2)}, journal.Exception, 0, true},
		"later attempt":               {[]journal.Event{final(journal.Exited, 1), final(journal.Completed, 2)}, journal.Completed, 0, true},
		"earlier attempt":             {[]journal.Event{final(journal.Completed, 2), final(journal.Exited, 1)}, journal.Completed, 0, false},
		"without attempts":            {[]journal.Event{final(journal.Exited, 0), final(journal.Completed, 0)}, journal.Completed, 0, true},
		"failure after completion":    {[]journal.Event{final(journal.Completed, 0), final(journal.Exited, 1)}, journal.Completed, 0, false},
		"later failure":               {[]journal.Event{final(journal.Completed, 1), final(journal.Exited, 2)}, journal.Exited, 0, true},
		"rerun":                       {[]journal.Event{final(journal.Exited, 3), rerun}, journal.Completed, 0, true},
		"many attempts":               {[]journal.Event{retry(100), retry(5000), final(journal.TimedOut, 5001)}, journal.TimedOut, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := journal.NewLatest()
			changed, after := false, journal.None
			for _, e := range c.events {
				_, after, changed = l.Add(e)
			}
			if after != c.want || changed != c.lastChanged || l.Count(journal.None) != c.pending {
				t.Errorf("outcome %v, changed %v, %d pending; want %v, %v, %d", after, changed, l.Count(journal.None), c.want, c.lastChanged, c.pending)
			}
			done, failed := int64(0), int64(0)
			if c.want != journal.None {
				done++
				if c.want != journal.Completed {
					failed++
				}
				if l.Count(c.want) != 1 {
					t.Errorf("%d tasks of kind %v", l.Count(c.want), c.want)
				}
			}
			if l.Done() != done || l.Failed() != failed {
				t.Errorf("%d done, %d failed; want %d, %d", l.Done(), l.Failed(), done, failed)
			}
		})
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	s := journal.NewSet()
	for i := range 3000 {
		s.Add(fmt.Sprint(i % 1000))
	}
	if s.Len() != 1000 {
		t.Errorf("%d different IDs, want 1000", s.Len())
	}
}
