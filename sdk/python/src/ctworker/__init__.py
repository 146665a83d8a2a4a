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

`start()` starts the engine, the program `ctworker`, as a child of this process, and forks the
fork server. The engine reads the tasks from their source, requests a fork for each task,
sends the task to the fork, and writes the events. The program's imports are loaded once: each
fork starts from a copy of the program's memory.

    source ─▶ engine ─▶ task socket ──▶ forked process: your function
                │  ▲                        ▲
                ▼  └─ control socket ─▶ fork server (forks, reaps)
              events

Tasks cannot share state: by default each runs in its own process, whose memory is discarded
after the task.
"""

from ctworker._data import TaskData, WorkerData
from ctworker._version import __version__
from ctworker.worker import Worker

__all__ = ["TaskData", "Worker", "WorkerData", "__version__"]
