package stages

import (
	"github.com/ctworker/ctworker/internal/prefetch"
	"github.com/ctworker/ctworker/pipeline"
)

// Decide exports verdictOf to tests.
var Decide = verdictOf

// An Extender is the state of an Extend stage that belongs to no run.
type Extender struct{ *extender }

// NewExtender returns an Extender that calls onError where Extend calls Run.Fail.
func NewExtender(opts ExtendOptions, onError func(error)) Extender {
	return Extender{newExtender(opts, prefetch.New(prefetch.Config{}), onError)}
}

func (x Extender) Stage() pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery] { return x.stage }

func (x Extender) Close() { x.close() }
