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

// These constants determine when a Reporter logs.
const (
	// firstWarning is the time from the first failure of an outage to the first log line. Shorter
	// outages are frequent and harmless, so they are not logged.
	firstWarning = time.Second
	// secondWarning is the interval between the first line and the second line. After that, the
	// interval doubles with each line until it reaches maxQuietPeriod.
	secondWarning  = time.Minute
	maxQuietPeriod = 15 * time.Minute
	// newCause is the minimum interval between two lines that report different causes.
	newCause = 10 * time.Second
	// manyFailures is the number of failures in outages shorter than firstWarning after which the
	// Reporter logs one line about these failures.
	manyFailures = 20
)

// A Reporter logs the outages of one provider. All code that sends requests to the provider shares
// the Reporter.
//
// The Reporter logs a line about a second after the first failure of an outage. During the outage
// it logs further lines with counts, at growing intervals. When requests succeed again, it logs a
// last line. A nil Reporter logs nothing. A Reporter is safe for concurrent use.
type Reporter struct {
	log      zerolog.Logger
	provider string

	mu            sync.Mutex
	failing       int           // number of requests that have failed and are being retried
	failures      int           // number of failures in the current outage
	since         time.Time     // start of the current outage
	first         *time.Timer   // calls warnFirst
	warned        bool          // a line was logged about the current outage
	last          time.Time     // when the last line was logged
	quietPeriod   time.Duration // minimum time from the last line to the next one
	cause         string        // cause in the last line
	err           error         // error of the last failure
	action        string        // action of the last failure
	briefFailures int           // number of failures in outages that were too short for a line
}

// NewReporter returns a Reporter that logs to log. provider is the name of the provider in the log.
func NewReporter(log zerolog.Logger, provider string) *Reporter {
	return &Reporter{log: log, provider: provider}
}

type reporterKey struct{}

// WithReporter returns a context that carries r. Sources and sinks that are opened with the context
// log through r. If several sources and sinks of one provider do not share a Reporter, each logs
// the same outage.
func WithReporter(ctx context.Context, r *Reporter) context.Context {
	return context.WithValue(ctx, reporterKey{}, r)
}

// ReporterFrom returns the Reporter of ctx. If ctx has none, it returns a new Reporter that logs to
// log.
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

// Begin returns a new Attempt. action is the name of the request in the log. The caller must call
// End.
func (r *Reporter) Begin(action string) *Attempt { return &Attempt{r: r, action: action} }

// ErrNoResponse is the error that ReportIfSlow passes to Failed.
var ErrNoResponse = errors.New("the server has not responded yet")

// ReportIfSlow starts a timer with the duration after. If the caller does not call stop before the
// timer fires, the attempt is recorded as failed with ErrNoResponse. A duration of 0 disables the
// timer.
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

// End ends the attempt. err is nil if the request succeeded. If not, err is the error of the last
// try.
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
			Float64("duration_seconds", seconds(now.Sub(r.since))).Msg("requests to the provider succeed again")
	case !r.warned:
		r.log.Debug().Err(r.err).Str("provider", r.provider).Str("action", r.action).Msg("a request to the provider failed and was retried")
		if r.briefFailures += r.failures; r.briefFailures >= manyFailures && now.Sub(r.last) >= secondWarning {
			r.log.Warn().Err(r.err).Str("provider", r.provider).Str("action", r.action).Int("failures", r.briefFailures).
				Msg("many requests to the provider failed and were retried")
			r.last, r.briefFailures = now, 0
		}
	}
	r.failures, r.warned = 0, false
}

// warnFirst logs the first line of an outage, unless the outage is over.
func (r *Reporter) warnFirst() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing > 0 && !r.warned {
		r.warned, r.quietPeriod, r.briefFailures = true, secondWarning, 0
		r.warn(time.Now())
	}
}

// warn logs a line about the current outage. The caller holds r.mu.
func (r *Reporter) warn(now time.Time) {
	r.last, r.cause = now, causeOf(r.err)
	r.log.Warn().Err(r.err).Str("provider", r.provider).Str("action", r.action).Int("failures", r.failures).
		Float64("duration_seconds", seconds(now.Sub(r.since))).Msg("requests to the provider fail; retrying")
}

func (r *Reporter) logStack(err error) {
	var p *pipeline.PanicError
	if errors.As(err, &p) {
		r.log.Debug().Str("provider", r.provider).Bytes("stack", p.Stack).Msg("the provider's client library panicked; treating the request as failed")
	}
}

func seconds(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }

// causeOf returns the text of the innermost error, without digits, because failures that differ
// only in a port number or a request ID have the same cause.
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
