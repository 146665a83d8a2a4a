package poll

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/pipeline"
)

// parse reads a message's body, {"task_id": "...", "data": {...}}.
func parse(body string) (pipeline.Task, error) {
	var m struct {
		TaskID jsontext.Value `json:"task_id,case:strict"`
		Data   jsontext.Value `json:"data,case:strict"`
	}
	if err := json.Unmarshal([]byte(body), &m, jsontext.AllowDuplicateNames(true)); err != nil {
		return pipeline.Task{}, fmt.Errorf(`the message is no task, {"task_id": "...", "data": {...}}: %w`, err)
	}
	var id string
	switch {
	case m.TaskID == nil:
		return pipeline.Task{}, errors.New("the message has no task_id")
	case m.TaskID.Kind() != '"':
		return pipeline.Task{}, fmt.Errorf("the message's task_id is %s: it must be a string", m.TaskID.Kind())
	}
	if err := json.Unmarshal(m.TaskID, &id); err != nil {
		return pipeline.Task{}, fmt.Errorf("the message's task_id: %w", err)
	}
	switch {
	case id == "":
		return pipeline.Task{}, errors.New("the message's task_id is empty")
	case m.Data == nil:
		return pipeline.Task{}, errors.New("the message has no data")
	}
	return pipeline.Task{ID: id, Data: []byte(m.Data)}, nil
}
