"""Modules other than the worker that worker programs import."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
