package queuepoll

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/pipeline"
)

// parse reads a message's body, {"task_id": "...", "data": {...}}.
func parse(body string) (pipeline.Task, error) {
	var m struct {
		TaskID jsontext.Value `json:"task_id,case:strict"`
		Data   jsontext.Value `json:"data,case:strict"`
	}
	if !utf8.ValidString(body) {
		return pipeline.Task{}, errors.New("the message is not UTF-8")
	}
	if err := json.Unmarshal([]byte(body), &m, rawjson.Options()); err != nil {
		return pipeline.Task{}, fmt.Errorf(`the message is not a task of the form {"task_id": "...", "data": ...}: %w`, err)
	}
	var id string
	switch {
	case m.TaskID == nil:
		return pipeline.Task{}, errors.New("the message has no task_id")
	case m.TaskID.Kind() == '0':
		integer, ok := rawjson.IntegerID(m.TaskID)
		if !ok {
			return pipeline.Task{}, fmt.Errorf("the message's task_id is %.40s: it must be a string or an integer", m.TaskID)
		}
		id = integer
	case m.TaskID.Kind() != '"':
		return pipeline.Task{}, fmt.Errorf("the message's task_id is %s: it must be a string or an integer", m.TaskID.Kind())
	default:
		id = rawjson.Unquote(m.TaskID)
	}
	switch {
	case id == "":
		return pipeline.Task{}, errors.New("the message's task_id is empty")
	case m.Data == nil:
		return pipeline.Task{}, errors.New("the message has no data")
	}
	return pipeline.Task{ID: id, Data: []byte(m.Data)}, nil
}
