package retry

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/pipeline"
)

// When a Reporter logs.
const (
	// firstWarning is the duration of an outage before the first line: most outages are
	// shorter.
	firstWarning = time.Second
	// secondWarning is the interval between the first line and the second one. The interval
	// doubles with each line, up to maxQuietPeriod.
	secondWarning  = time.Minute
	maxQuietPeriod = 15 * time.Minute
	// newCause is the minimum interval between two lines with different causes.
	newCause = 10 * time.Second
	// manyFailures is the number of short failures after which one line is logged.
	manyFailures = 20
)

// A Reporter logs the outages of one provider. All code that sends requests to the provider
// shares it. It logs one line about a second after the first failure, further lines with
// counts at growing intervals, and one line when requests succeed again. A nil Reporter logs
// nothing. It is safe for concurrent use.
type Reporter struct {
	log      zerolog.Logger
	provider string

	mu            sync.Mutex
	failing       int           // attempts that have failed and not ended
	failures      int           // failures in this outage
	since         time.Time     // start of this outage
	first         *time.Timer   // logs the first line
	warned        bool          // a line was logged about this outage
	last          time.Time     // when the last line was logged
	quietPeriod   time.Duration // minimum interval until the next line
	cause         string        // cause in the last line
	err           error         // last failure
	action        string        // action of the last failure
	briefFailures int           // failures in outages that ended before their first line
}

// NewReporter returns a Reporter that logs to log. provider is the provider's name in the
// log.
func NewReporter(log zerolog.Logger, provider string) *Reporter {
	return &Reporter{log: log, provider: provider}
}

// reporterKey is the context key of a Reporter.
type reporterKey struct{}

// WithReporter returns a context with a Reporter for the sources and sinks that are opened with
// it. Those of one provider share a Reporter, because otherwise each would log the same outage.
func WithReporter(ctx context.Context, r *Reporter) context.Context {
	return context.WithValue(ctx, reporterKey{}, r)
}

// ReporterFrom returns the Reporter of ctx, or a new one that logs to log.
func ReporterFrom(ctx context.Context, log zerolog.Logger, provider string) *Reporter {
	if r, ok := ctx.Value(reporterKey{}).(*Reporter); ok && r != nil {
		return r
	}
	return NewReporter(log, provider)
}

// An Attempt is one request together with its retries.
type Attempt struct {
	r             *Reporter
	action        string
	failed, ended bool // guarded by r.mu
}

// Begin returns a new Attempt. action names the request in the log. The caller must call
// End.
func (r *Reporter) Begin(action string) *Attempt { return &Attempt{r: r, action: action} }

// ErrNoResponse is the failure that ReportIfSlow reports for a request without a response.
var ErrNoResponse = errors.New("the server has not responded yet")

// ReportIfSlow calls Failed with ErrNoResponse after the given duration, unless stop is
// called first. A duration of 0 disables it.
func (a *Attempt) ReportIfSlow(after time.Duration) (stop func()) {
	if a.r == nil || after <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(after, func() { a.Failed(ErrNoResponse) })
	return func() { timer.Stop() }
}

// Failed records a failure that will be retried.
func (a *Attempt) Failed(err error) {
	r := a.r
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.ended { // the timer of ReportIfSlow fired while the attempt ended
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
	if quiet := now.Sub(r.last); r.warned && (quiet >= r.quietPeriod || cause != r.cause && quiet >= newCause) {
		r.warn(now)
		r.quietPeriod = min(2*r.quietPeriod, maxQuietPeriod)
	}
}

// End ends the attempt. err is nil if the request succeeded, or the error that is not
// retried.
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
		r.log.Debug().Err(r.err).Str("provider", r.provider).Str("action", r.action).Msg("request failed, and succeeded when retried")
		if r.briefFailures += r.failures; r.briefFailures >= manyFailures && now.Sub(r.last) >= secondWarning {
			r.log.Warn().Err(r.err).Str("provider", r.provider).Str("action", r.action).Int("failures", r.briefFailures).
				Msg("many requests fail and succeed when retried")
			r.last, r.briefFailures = now, 0
		}
	}
	r.failures, r.warned = 0, false
}

// warnFirst logs the first line, unless the outage is over.
func (r *Reporter) warnFirst() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing > 0 && !r.warned {
		r.warned, r.quietPeriod, r.briefFailures = true, secondWarning, 0
		r.warn(time.Now())
	}
}

// warn logs the outage. The caller holds mu.
func (r *Reporter) warn(now time.Time) {
	r.last, r.cause = now, causeOf(r.err)
	r.log.Warn().Err(r.err).Str("provider", r.provider).Str("action", r.action).Int("failures", r.failures).
		Float64("duration_seconds", seconds(now.Sub(r.since))).Msg("requests fail; retrying")
}

func (r *Reporter) logStack(err error) {
	var p *pipeline.PanicError
	if errors.As(err, &p) {
		r.log.Debug().Str("provider", r.provider).Bytes("stack", p.Stack).Msg("the provider's SDK panicked; the request counts as failed")
	}
}

func seconds(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }

// causeOf returns the text of the innermost error without digits, so that port numbers and
// request ids do not make two failures look different.
func causeOf(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	const maxLen = 300
	text := err.Error()
	return strings.Map(func(c rune) rune {
		if unicode.IsDigit(c) {
			return -1
		}
		return c
	}, text[:min(len(text), maxLen)])
}
