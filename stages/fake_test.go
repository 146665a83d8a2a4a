package stages_test

import (
	"errors"

	"github.com/ctworker/ctworker/internal/testutil/pipelinetest"
	"github.com/ctworker/ctworker/pipeline"
)

type (
	recorder = pipelinetest.Recorder
	lease    = pipelinetest.Lease
	source   = pipelinetest.Source
	sink     = pipelinetest.Sink
)

func deliveries(rec *recorder, n int) []*pipeline.Delivery { return pipelinetest.Deliveries(rec, n) }

var errBoom = errors.New("boom")
