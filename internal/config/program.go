package config

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// WorkerData returns the settings of the specification's WorkerData as one JSON object, which is
// the "worker" of the task protocol. The keys are the names of its attributes. Times are in seconds
// and sizes in GB. A setting without a value is null. The specification does not have instance_id
// and zone.
func (c *Config) WorkerData() []byte {
	data := struct {
		Provider             *string         `json:"provider"`
		ProjectID            *string         `json:"project_id"`
		JobID                *string         `json:"job_id"`
		QueueName            *string         `json:"queue_name"`
		ExactlyOnceQueue     bool            `json:"exactly_once_queue"`
		EventLogToFile       bool            `json:"event_log_to_file"`
		EventLogFile         *string         `json:"event_log_file"`
		EventLogToQueue      bool            `json:"event_log_to_queue"`
		EventLogQueueName    *string         `json:"event_log_queue_name"`
		KeepaliveInterval    json.RawMessage `json:"keepalive_interval"`
		InstanceType         *string         `json:"instance_type"`
		NumCPUs              *int            `json:"num_cpus"`
		MemoryGB             *float64        `json:"memory_gb"`
		LocalSSDGB           *float64        `json:"local_ssd_gb"`
		BootDiskGB           *float64        `json:"boot_disk_gb"`
		IsSpot               bool            `json:"is_spot"`
		PricePerHour         *float64        `json:"price_per_hour"`
		InstanceID           *string         `json:"instance_id"`
		Zone                 *string         `json:"zone"`
		NumSimultaneousTasks int             `json:"num_simultaneous_tasks"`
		MaxRuntime           json.RawMessage `json:"max_runtime"`
		MaxMemoryPerTask     *float64        `json:"max_memory_allowed_per_task"`
		ShutdownGracePeriod  json.RawMessage `json:"shutdown_grace_period"`
		TasksToSkip          int64           `json:"tasks_to_skip"`
		MaxNumTasks          *int64          `json:"max_num_tasks"`
		RetryOnExit          bool            `json:"retry_on_exit"`
		RetryOnException     bool            `json:"retry_on_exception"`
		RetryOnTimeout       bool            `json:"retry_on_timeout"`
		SimulateAfter        json.RawMessage `json:"simulate_spot_termination_after"`
		SimulateDelay        json.RawMessage `json:"simulate_spot_termination_delay"`
	}{
		textOrNull(c.Provider), textOrNull(c.ProjectID), textOrNull(c.JobID), textOrNull(c.QueueName),
		c.ExactlyOnceQueue, c.EventLogToFile, textOrNull(c.EventLogFile), c.EventLogToQueue,
		textOrNull(c.eventQueueName()), secondsOf(&c.KeepaliveInterval),
		textOrNull(c.InstanceType), c.NumCPUs, c.MemoryGB, c.LocalSSDGB, c.BootDiskGB, c.IsSpot, c.PricePerHour, textOrNull(c.InstanceID), textOrNull(c.Zone),
		c.NumSimultaneousTasks, secondsOf(&c.MaxRuntime), gibibytesOrNull(c.MaxMemoryAllowedPerTask), secondsOf(&c.ShutdownGracePeriod), c.TasksToSkip, c.MaxNumTasks,
		c.RetryOnExit, c.RetryOnException, c.RetryOnTimeout,
		secondsOf(c.SimulateSpotTerminationAfter), secondsOf(c.SimulateSpotTerminationDelay),
	}
	b, err := json.Marshal(data)
	if err != nil { // numbers that Load has taken are finite
		panic("config: worker data: " + err.Error())
	}
	return b
}

// eventQueueName returns the name of the event queue, or "" if no events are sent to a queue. As in
// the specification, the name has no suffix of a provider.
func (c *Config) eventQueueName() string {
	if !c.EventLogToQueue || c.QueueName == "" {
		return ""
	}
	return strings.TrimSuffix(c.QueueName, ".fifo") + "-events"
}

// gibibytesOrNull returns a size in units of 2^30 bytes, or nil for 0, which means no limit.
func gibibytesOrNull(bytes int64) *float64 {
	if bytes == 0 {
		return nil
	}
	gb := float64(bytes) / (1 << 30)
	return &gb
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// secondsOf is a time as a JSON number, or null.
func secondsOf(d *time.Duration) json.RawMessage {
	if d == nil {
		return json.RawMessage("null")
	}
	return strconv.AppendFloat(nil, d.Seconds(), 'f', -1, 64)
}
