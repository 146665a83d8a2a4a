"""Run N calls that do nothing, each in its own fork: pool.py N SLOTS."""

import multiprocessing
import sys


def process(task):
    return True


if __name__ == "__main__":
    n, slots = int(sys.argv[1]), int(sys.argv[2])
    tasks = ((f"task-{i:08}", {"num1": i, "num2": 2 * i}) for i in range(n))
    with multiprocessing.get_context("fork").Pool(slots, maxtasksperchild=1) as pool:
        assert all(pool.imap_unordered(process, tasks, chunksize=1))
