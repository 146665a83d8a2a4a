"""Run a Python function over a very large set of tasks, in separate processes.

A whole worker program:

    import asyncio
    import sys

    from ctworker import Worker, WorkerData

    def process_task(task_id: str, task_data: dict, worker_data: WorkerData):
        return False, {"sum": task_data["num1"] + task_data["num2"]}

    if __name__ == "__main__":
        worker = Worker(process_task, args=sys.argv[1:])
        asyncio.run(worker.start())

Run it as `python3 worker.py --task-file tasks.json -j auto`.

`start()` starts two child processes:

- The engine is the program `ctworker`. It reads the tasks from their source, sends each task to
  a process, and writes an event when the task has ended.
- The fork server is a fork of this program. When the engine requests a process for a task, the
  fork server forks one. The forked process starts with everything that the program has imported,
  because it is a copy of the program.

The diagram shows how the processes are connected:

    source ─▶ engine ─▶ task socket ──▶ forked process: your function
                │  ▲                        ▲
                ▼  └─ control socket ─▶ fork server (forks, reaps)
              events

By default each task runs in its own process, which exits after the task. A change that a task
makes to a global variable is therefore not visible to other tasks.
"""

from ctworker._data import TaskData, WorkerData
from ctworker._results import Results, ResultsError, results
from ctworker._version import __version__
from ctworker.worker import Worker

__all__ = [
    "Results",
    "ResultsError",
    "TaskData",
    "Worker",
    "WorkerData",
    "__version__",
    "results",
]
