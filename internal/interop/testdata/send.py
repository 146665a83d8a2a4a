"""Send messages to a task queue with the queue interface of rms-cloud-tasks.

usage: send.py PROVIDER QUEUE [PROJECT]

Each line of standard input is a Python expression: a task as (task_id, data), or a complete message
as a dict.
"""

import asyncio
import sys

from cloud_tasks.queue_manager import create_queue


async def main() -> None:
    project = {"project_id": sys.argv[3]} if len(sys.argv) > 3 else {}
    queue = await create_queue(provider=sys.argv[1], queue_name=sys.argv[2], **project)
    for line in sys.stdin:
        message = eval(line, {"nan": float("nan"), "inf": float("inf")})  # noqa: S307, the test's own text
        if isinstance(message, tuple):
            await queue.send_task(*message)
        else:
            await queue.send_message(message)


asyncio.run(main())
