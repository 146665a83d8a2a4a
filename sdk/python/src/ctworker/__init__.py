"""Run a Python function over a very large set of tasks, each in a process of its own.

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

What happens: `start()` starts the engine, the program `ctworker`, as a child of this
process. The engine takes the tasks from their source, says when a process is to be
forked, hands it its task, and writes the events. This process only forks, and so has
the program's imports loaded once, for all tasks.

    source ─▶ engine ─▶ task socket ─▶ forked child: your function
                │  ▲                       ▲
                ▼  └── control socket ──▶ this process (forks, reaps)
              events

It is not for tasks that share state: each runs in a process that forgets.
"""

from ctworker._data import TaskData, WorkerData
from ctworker._version import __version__
from ctworker.worker import Worker

__all__ = ["TaskData", "Worker", "WorkerData", "__version__"]
