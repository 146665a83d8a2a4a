"""The worker under its older name, for `from cloud_tasks.worker import Worker`."""

from .worker import TaskData, Worker, WorkerData

__all__ = ["TaskData", "Worker", "WorkerData"]
