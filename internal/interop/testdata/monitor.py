"""Run the manager's event monitor until it has received a keep_alive and a spot_termination event.

usage: monitor.py CONFIG DATABASE

Prints a JSON object with the names of the instances that sent these events.
"""

import asyncio
import json
import sys

from cloud_tasks.cli import EventMonitor
from cloud_tasks.common.config import load_config
from cloud_tasks.common.task_db import TaskDatabase
from cloud_tasks.queue_manager import create_queue


async def main() -> None:
    config = load_config(sys.argv[1])
    config.overload_from_cli({})
    config.update_run_config_from_provider_config()
    received = {"alive": set(), "terminated": set()}
    queue = await create_queue(config, queue_name=f"{config.get_provider_config().queue_name}-events")
    monitor = EventMonitor(
        queue,
        TaskDatabase(sys.argv[2]),
        print_events=False,
        print_summary=False,
        keepalive_callback=lambda instance, timestamp: received["alive"].add(instance),
        spot_termination_callback=received["terminated"].add,
    )
    while not all(received.values()):
        await monitor.process_events_batch()
    print(json.dumps({event: sorted(instances) for event, instances in received.items()}))


asyncio.run(main())
