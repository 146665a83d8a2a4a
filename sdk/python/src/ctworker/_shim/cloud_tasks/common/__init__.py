"""What worker programs import besides the worker."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
