"""Print the startup script that the pool manager of rms-cloud-tasks generates for a configuration.

usage: startup.py CONFIG INSTANCE

INSTANCE is a JSON object with the instance type to use. The manager is not asked to select an
instance type, because it would need the price list of the cloud.
"""

import json
import sys

from cloud_tasks.common.config import load_config
from cloud_tasks.instance_manager.orchestrator import InstanceOrchestrator

config = load_config(sys.argv[1])
config.overload_from_cli({})
config.update_run_config_from_provider_config()
config.validate_config()
manager = InstanceOrchestrator(config)
instance = json.loads(sys.argv[2])
manager._optimal_instance_info = instance
manager._optimal_instance_boot_disk_size = instance["boot_disk_gb"]
manager._optimal_instance_num_tasks = manager._tasks_per_instance(instance)
sys.stdout.write(manager._generate_worker_startup_script())
