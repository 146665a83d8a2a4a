"""Replaces the package cloud_tasks of rms-cloud-tasks for programs run by python -m ctworker.

It has the modules that worker programs use. If a program imports another module, such as
cloud_tasks.queue_manager, Python loads the module from rms-cloud-tasks, if it is installed.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
