package config

import (
	"encoding/json"
	"strings"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// WorkerData returns the settings that are attributes of the specification's WorkerData, as one
// JSON object. The object is the value of "worker" in the task protocol. A setting without a value
// is null.
func (c *Config) WorkerData() []byte {
	b, err := json.Marshal(taskproto.WorkerData{
		Provider: orNull(c.Provider), ProjectID: orNull(c.ProjectID), JobID: orNull(c.JobID),
		QueueName: orNull(c.QueueName), ExactlyOnceQueue: c.ExactlyOnceQueue,
		EventLogToFile: c.EventLogToFile, EventLogFile: orNull(c.EventLogFile),
		EventLogToQueue: c.EventLogToQueue, EventLogQueueName: orNull(c.eventQueueName()),
		KeepaliveInterval: taskproto.FloatSeconds(c.KeepaliveInterval),

		InstanceType: orNull(c.InstanceType), NumCPUs: c.NumCPUs, MemoryGB: c.MemoryGB,
		LocalSSDGB: c.LocalSSDGB, BootDiskGB: c.BootDiskGB, IsSpot: c.IsSpot, PricePerHour: c.PricePerHour,
		InstanceID: orNull(c.InstanceID), Zone: orNull(c.Zone),

		NumSimultaneousTasks: c.NumSimultaneousTasks, MaxRuntime: taskproto.Seconds(c.MaxRuntime),
		MaxMemoryAllowedPerTask: orNull(float64(c.MaxMemoryAllowedPerTask) / (1 << 30)),
		ShutdownGracePeriod:     taskproto.Seconds(c.ShutdownGracePeriod),
		TasksToSkip:             c.TasksToSkip, MaxNumTasks: c.MaxNumTasks,
		RetryOnExit: c.RetryOnExit, RetryOnException: c.RetryOnException, RetryOnTimeout: c.RetryOnTimeout,

		SimulateSpotTerminationAfter: (*taskproto.FloatSeconds)(c.SimulateSpotTerminationAfter),
		SimulateSpotTerminationDelay: (*taskproto.FloatSeconds)(c.SimulateSpotTerminationDelay),
	})
	if err != nil { // impossible, because Load accepts only finite numbers
		panic("config: worker data: " + err.Error())
	}
	return b
}

// eventQueueName returns the name of the event queue, or "" if no events are sent to a queue. As in
// the specification, the name does not end in a provider's suffix such as .fifo.
func (c *Config) eventQueueName() string {
	if !c.EventLogToQueue || c.QueueName == "" {
		return ""
	}
	return strings.TrimSuffix(c.QueueName, ".fifo") + "-events"
}

// orNull returns a pointer to value, or nil if it is the zero value.
func orNull[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
