"""Load a queue like load_queue and run, but do not query its depth afterwards.

usage: load.py CONFIG DATABASE TASKS

On Google Cloud rms-cloud-tasks queries the depth of an exactly-once queue by receiving its tasks,
which then stay in flight until a minute after the process has exited.
"""

import asyncio
import sys

from cloud_tasks.cli import load_queue_common
from cloud_tasks.common.config import load_config

config = load_config(sys.argv[1])
config.overload_from_cli({})
config.update_run_config_from_provider_config()
config.validate_config()
asyncio.run(load_queue_common(config, sys.argv[2], sys.argv[3], None, None, 100, force=True))
