package taskproto

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// WorkerData contains the attributes of the specification's WorkerData. Its JSON encoding is the
// object "worker" in the first line that a worker process receives. No other Go code declares the
// attributes. The Go SDK decodes the object into its own struct with DecodeWorkerData, and the
// attributes of the Python package are generated from it.
//
// A nil pointer is encoded as null. The tags of an attribute are:
//   - setting: the name of the setting that provides the value. Defaults to the name of the attribute
//     with dashes instead of underscores. "-" means that no setting provides the value.
//   - default: the value, as Python code, in a WorkerData that a Python program creates for a test.
//     Defaults to the default of the setting, or to the zero value.
//   - doc: facts about the attribute that its name and type do not show.
//
// rms-cloud-tasks, the system of the specification, does not have instance_id, zone, tasks_to_skip and
// max_num_tasks.
type WorkerData struct {
	Provider          *string      `json:"provider"`
	ProjectID         *string      `json:"project_id"`
	JobID             *string      `json:"job_id"`
	QueueName         *string      `json:"queue_name"`
	ExactlyOnceQueue  bool         `json:"exactly_once_queue"`
	EventLogToFile    bool         `json:"event_log_to_file"`
	EventLogFile      *string      `json:"event_log_file"`
	EventLogToQueue   bool         `json:"event_log_to_queue"`
	EventLogQueueName *string      `json:"event_log_queue_name" setting:"-" doc:"The name of the event queue, if events are sent to a queue."`
	KeepaliveInterval FloatSeconds `json:"keepalive_interval" doc:"The time between two keep_alive events; 0 disables keep_alive events."`

	InstanceType *string  `json:"instance_type"`
	NumCPUs      *int     `json:"num_cpus"`
	MemoryGB     *float64 `json:"memory_gb" setting:"memory"`
	LocalSSDGB   *float64 `json:"local_ssd_gb" setting:"local-ssd"`
	BootDiskGB   *float64 `json:"boot_disk_gb" setting:"boot-disk"`
	IsSpot       bool     `json:"is_spot"`
	PricePerHour *float64 `json:"price_per_hour" setting:"price" doc:"In US dollars."`
	InstanceID   *string  `json:"instance_id" setting:"-" doc:"The provider's ID of this machine, if the metadata service reports it."`
	Zone         *string  `json:"zone" setting:"-" doc:"The zone, such as us-east-1a, if the metadata service reports it."`

	NumSimultaneousTasks    int      `json:"num_simultaneous_tasks" default:"1"`
	MaxRuntime              Seconds  `json:"max_runtime"`
	MaxMemoryAllowedPerTask *float64 `json:"max_memory_allowed_per_task" doc:"The maximum address space of a task in GB, if there is a limit."`
	ShutdownGracePeriod     Seconds  `json:"shutdown_grace_period"`
	TasksToSkip             int64    `json:"tasks_to_skip"`
	MaxNumTasks             *int64   `json:"max_num_tasks"`
	RetryOnExit             bool     `json:"retry_on_exit"`
	RetryOnException        bool     `json:"retry_on_exception"`
	RetryOnTimeout          bool     `json:"retry_on_timeout"`

	SimulateSpotTerminationAfter *FloatSeconds `json:"simulate_spot_termination_after"`
	SimulateSpotTerminationDelay *FloatSeconds `json:"simulate_spot_termination_delay"`
}

// Seconds is a duration. Its JSON encoding is the number of seconds. In Python, a whole number of
// seconds is an int.
type Seconds time.Duration

// FloatSeconds is like Seconds, but always a float in Python.
type FloatSeconds time.Duration

// MarshalJSON returns the number of seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// MarshalJSON returns the number of seconds.
func (s FloatSeconds) MarshalJSON() ([]byte, error) { return Seconds(s).MarshalJSON() }

// DecodeWorkerData decodes a JSON object with the attributes of WorkerData into the fields of the struct
// that into points to. A field gets the attribute whose name is the field's tag "json". A field without
// this tag, or without an attribute in data, is not changed. If an attribute is null, its field gets the
// zero value. A field of type time.Duration or *time.Duration gets a number of seconds.
func DecodeWorkerData(data []byte, into any) error {
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(data, &attributes); err != nil {
		return fmt.Errorf("worker data: %w", err)
	}
	fields := reflect.ValueOf(into).Elem()
	for i := range fields.NumField() {
		value, ok := attributes[fields.Type().Field(i).Tag.Get("json")]
		if !ok {
			continue
		}
		if err := decodeAttribute(value, fields.Field(i)); err != nil {
			return fmt.Errorf("worker data: %s: %w", fields.Type().Field(i).Tag.Get("json"), err)
		}
	}
	return nil
}

// SecondsToDuration converts s to a Duration. If s is too large, the result is the maximum
// Duration.
func SecondsToDuration(s float64) time.Duration {
	const maximum = 1<<63 - 1
	if ns := s * float64(time.Second); ns < maximum {
		return time.Duration(ns)
	}
	return maximum
}

var durationType = reflect.TypeFor[time.Duration]()

func decodeAttribute(value json.RawMessage, field reflect.Value) error {
	isPointer := field.Kind() == reflect.Pointer
	if string(value) == "null" {
		field.SetZero()
		return nil
	}
	if field.Type() != durationType && !(isPointer && field.Type().Elem() == durationType) {
		return json.Unmarshal(value, field.Addr().Interface())
	}
	var seconds float64
	if err := json.Unmarshal(value, &seconds); err != nil {
		return err
	}
	d := SecondsToDuration(seconds)
	if isPointer {
		field.Set(reflect.ValueOf(&d))
		return nil
	}
	field.SetInt(int64(d))
	return nil
}
