"""The names that programs for rms-cloud-tasks import from cloud_tasks.worker."""

from .worker import TaskData, Worker, WorkerData

__all__ = ["TaskData", "Worker", "WorkerData"]
