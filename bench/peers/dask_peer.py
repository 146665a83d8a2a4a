"""Run N calls that do nothing on a local cluster of dask.distributed: dask_peer.py N SLOTS."""

import sys

from dask.distributed import Client, LocalCluster


def process(task_id, num1, num2):
    return True


if __name__ == "__main__":
    n, slots = int(sys.argv[1]), int(sys.argv[2])
    with LocalCluster(n_workers=slots, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster, Client(cluster) as client:
        ids = [f"task-{i:08}" for i in range(n)]
        assert all(client.gather(client.map(process, ids, range(n), range(0, 2 * n, 2), pure=False)))
