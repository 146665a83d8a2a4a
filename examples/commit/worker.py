"""A worker whose tasks do not write their results after a termination notice.

python3 worker.py --task-file tasks.json --simulate-spot-termination-after 2
"""

import asyncio
import os
import sys
import time

from ctworker import Worker, WorkerData


def work(task_id: str, task_data: dict, worker: WorkerData):
    time.sleep(1)  # simulates the work, which must not write anything
    if worker.received_termination_notice:
        return True, "termination notice received: nothing was written"
    name = os.path.basename(task_id) + ".result"
    with open(name + ".part", "w") as part:  # renamed when complete
        part.write("the result\n")
    os.rename(name + ".part", name)
    return False, "written"


if __name__ == "__main__":
    asyncio.run(Worker(work, args=sys.argv[1:]).start())
