"""A worker whose tasks do not begin to write when the machine is about to be taken away.

python3 worker.py --task-file tasks.json --simulate-spot-termination-after 2
"""

import asyncio
import os
import sys
import time

from ctworker import Worker, WorkerData


def work(task_id: str, task_data: dict, worker: WorkerData):
    time.sleep(1)  # the work; nothing is written meanwhile
    if worker.received_termination_notice:
        return True, "the machine is about to be taken away: nothing was written"
    name = os.path.basename(task_id) + ".result"
    with open(name + ".part", "w") as part:  # so that nobody ever sees half a file
        part.write("the result\n")
    os.rename(name + ".part", name)
    return False, "written"


if __name__ == "__main__":
    asyncio.run(Worker(work, args=sys.argv[1:]).start())
