package again

import (
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"
)

// When a Reporter logs.
const (
	// firstWarning is how long requests fail before that is worth a line: most failures
	// are over by then.
	firstWarning = time.Second
	// secondWarning is how long after the first line the next one comes; the time doubles
	// with each line, up to longestSilence.
	secondWarning  = time.Minute
	longestSilence = 15 * time.Minute
	// newCause is how soon another line may come if the reason has changed.
	newCause = 10 * time.Second
	// manyFailures is how many requests that failed and soon succeeded are worth a line.
	manyFailures = 20
)

// A Reporter logs the outages of one provider for everything that makes requests to it:
// one line soon after the first failure, then lines that become rarer, with counts, and
// one line when requests succeed again. A nil Reporter logs nothing. It is safe for
// concurrent use.
type Reporter struct {
	log      zerolog.Logger
	provider string

	mu       sync.Mutex
	failing  int           // attempts that have failed and not ended
	failures int           // in this outage
	since    time.Time     // of the first one
	first    *time.Timer   // logs the first line
	warned   bool          // there has been a line about this outage
	last     time.Time     // when the last line was logged
	silence  time.Duration // until the next one
	cause    string        // of the last line
	err      error         // the last failure
	action   string        // that failed
	passed   int           // failures that were over before a line was due
}

// NewReporter returns a Reporter for a provider of this name.
func NewReporter(log zerolog.Logger, provider string) *Reporter {
	return &Reporter{log: log, provider: provider}
}

// An Attempt is one request with its repetitions.
type Attempt struct {
	r             *Reporter
	action        string
	failed, ended bool // guarded by r.mu
}

// Begin returns an attempt at the action. End it.
func (r *Reporter) Begin(action string) *Attempt { return &Attempt{r: r, action: action} }

// ErrNoAnswer is what an attempt fails with that has not been answered for long.
var ErrNoAnswer = errors.New("there is no answer yet")

// Late calls Failed with ErrNoAnswer after a while, unless stop is called before.
func (a *Attempt) Late(after time.Duration) (stop func()) {
	if a.r == nil || after <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(after, func() { a.Failed(ErrNoAnswer) })
	return func() { timer.Stop() }
}

// Failed says that a request has failed, and will be repeated.
func (a *Attempt) Failed(err error) {
	r := a.r
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.ended { // Late was too late
		return
	}
	now := time.Now()
	if !a.failed {
		a.failed = true
		r.failing++
	}
	if r.failures == 0 {
		r.since = now
		r.first = time.AfterFunc(firstWarning, r.warnFirst)
	}
	r.failures++
	r.err, r.action = err, a.action
	r.logStack(err)
	cause := causeOf(err)
	if quiet := now.Sub(r.last); r.warned && (quiet >= r.silence || cause != r.cause && quiet >= newCause) {
		r.warn(now)
		r.silence = min(2*r.silence, longestSilence)
	}
}

// End says that the attempt is over: that it has succeeded, or with an error that it will
// not be repeated.
func (a *Attempt) End(err error) {
	r := a.r
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a.ended = true
	if !a.failed {
		return
	}
	a.failed = false
	if r.failing--; r.failing > 0 {
		return
	}
	r.first.Stop()
	now := time.Now()
	switch {
	case r.warned && err == nil:
		r.log.Info().Str("provider", r.provider).Int("failures", r.failures).
			Float64("duration_seconds", seconds(now.Sub(r.since))).Msg("requests succeed again")
	case !r.warned:
		r.log.Debug().Err(r.err).Str("provider", r.provider).Str("action", r.action).Msg("a request failed and was repeated")
		if r.passed += r.failures; r.passed >= manyFailures && now.Sub(r.last) >= secondWarning {
			r.log.Warn().Err(r.err).Str("provider", r.provider).Str("action", r.action).Int("failures", r.passed).
				Msg("many requests fail and succeed when repeated")
			r.last, r.passed = now, 0
		}
	}
	r.failures, r.warned = 0, false
}

// warnFirst logs the first line, unless the outage is over.
func (r *Reporter) warnFirst() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing > 0 && !r.warned {
		r.warned, r.silence, r.passed = true, secondWarning, 0
		r.warn(time.Now())
	}
}

// warn logs a line. The caller holds mu.
func (r *Reporter) warn(now time.Time) {
	r.last, r.cause = now, causeOf(r.err)
	r.log.Warn().Err(r.err).Str("provider", r.provider).Str("action", r.action).Int("failures", r.failures).
		Float64("duration_seconds", seconds(now.Sub(r.since))).Msg("requests fail and are repeated")
}

func (r *Reporter) logStack(err error) {
	var p *PanicError
	if errors.As(err, &p) {
		r.log.Debug().Str("provider", r.provider).Bytes("stack", p.Stack).Msg("the provider's SDK panicked")
	}
}

func seconds(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }

// causeOf is the text of what is at the root of an error, without what differs from one
// failure to the next, such as ports and request ids.
func causeOf(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	const most = 300
	text := err.Error()
	return strings.Map(func(c rune) rune {
		if unicode.IsDigit(c) {
			return -1
		}
		return c
	}, text[:min(len(text), most)])
}
