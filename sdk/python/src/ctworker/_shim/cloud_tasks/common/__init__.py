"""Modules that worker programs import in addition to cloud_tasks.worker."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
