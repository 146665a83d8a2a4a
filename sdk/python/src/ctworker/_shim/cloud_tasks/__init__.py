"""The package that existing programs import the worker from; see ctworker.__main__.

It has the modules that worker programs use. Other modules, such as
cloud_tasks.queue_manager, are imported from an installed package of this name.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
