"""The package that existing programs import the worker from; see ctworker.__main__.

It has the modules that worker programs use. Of an installed package of this name, the
other modules, such as cloud_tasks.queue_manager, can be imported all the same.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
