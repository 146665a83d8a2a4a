"""A worker program for rms-cloud-tasks. The data of each task selects its outcome."""

import asyncio
import os
import sys
import time

from cloud_tasks.worker import Worker, WorkerData

SETTINGS = (
    "provider project_id job_id queue_name instance_type num_cpus memory_gb local_ssd_gb boot_disk_gb is_spot "
    "price_per_hour num_simultaneous_tasks max_runtime retry_on_exit retry_on_exception retry_on_timeout"
).split()


def process_task(task_id: str, task_data: dict, worker_data: WorkerData):
    do = task_data["do"]
    if do == "settings":
        return False, {name: getattr(worker_data, name) for name in SETTINGS}
    if do == "raise":
        raise ValueError(f"{task_id} raises")
    if do == "exit":
        sys.exit(3)
    if do == "hang":
        time.sleep(3600)
    if do == "retry":  # only at the first attempt
        try:
            os.close(os.open(f"{task_id}.seen", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False, "retried"
        return True, "retry"
    if do == "dict":
        return False, {"task_id": task_id, "words": ["ä", "\N{GRINNING FACE}"], "nothing": None}
    return False, f"{task_id} is done"


if __name__ == "__main__":
    asyncio.run(Worker(process_task, args=sys.argv[1:]).start())
