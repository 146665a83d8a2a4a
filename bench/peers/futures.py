"""Run N calls that do nothing in a pool of processes: futures.py N SLOTS [fresh]."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor


def process(task_id, data):
    return True


if __name__ == "__main__":
    n, slots = int(sys.argv[1]), int(sys.argv[2])
    # With "fresh", each task gets a new process. The start method is forkserver, because
    # max_tasks_per_child does not work with the start method fork.
    more = {"max_tasks_per_child": 1, "mp_context": multiprocessing.get_context("forkserver")} if sys.argv[3:] else {}
    with ProcessPoolExecutor(slots, **more) as pool:
        futures = [pool.submit(process, f"task-{i:08}", {"num1": i, "num2": 2 * i}) for i in range(n)]
        assert all(f.result() for f in futures)
