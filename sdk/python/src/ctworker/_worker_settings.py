"""The attributes of WorkerData that are settings of the worker.

Written by "go test ./internal/config -run Settings -update"; do not edit.
"""

from __future__ import annotations


class WorkerSettings:
    """The settings of the worker, with the values of a WorkerData that a test creates."""

    provider: str | None = None
    project_id: str | None = None
    job_id: str | None = None
    queue_name: str | None = None
    exactly_once_queue: bool = False
    event_log_to_file: bool = False
    event_log_file: str | None = "events.log"
    event_log_to_queue: bool = False
    event_log_queue_name: str | None = None
    """The name of the event queue, if events are sent to a queue."""
    keepalive_interval: float = 60.0
    """The time between two keep_alive events; 0 disables keep_alive events."""
    instance_type: str | None = None
    num_cpus: int | None = None
    memory_gb: float | None = None
    local_ssd_gb: float | None = None
    boot_disk_gb: float | None = None
    is_spot: bool = False
    price_per_hour: float | None = None
    """In US dollars."""
    instance_id: str | None = None
    """The provider's ID of this machine, if the metadata service reports it."""
    zone: str | None = None
    """The zone, such as us-east-1a, if the metadata service reports it."""
    num_simultaneous_tasks: int = 1
    max_runtime: float = 600
    max_memory_allowed_per_task: float | None = None
    """The maximum address space of a task in GB, if there is a limit."""
    shutdown_grace_period: float = 30
    tasks_to_skip: int = 0
    max_num_tasks: int | None = None
    retry_on_exit: bool = False
    retry_on_exception: bool = False
    retry_on_timeout: bool = False
    simulate_spot_termination_after: float | None = None
    simulate_spot_termination_delay: float | None = None


FLOATS = frozenset(
    (
        "keepalive_interval",
        "memory_gb",
        "local_ssd_gb",
        "boot_disk_gb",
        "price_per_hour",
        "max_memory_allowed_per_task",
        "simulate_spot_termination_after",
        "simulate_spot_termination_delay",
    )
)
"""The attributes that are of type float in rms-cloud-tasks, even if the value is whole."""
