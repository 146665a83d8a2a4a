"""The name that existing programs import the worker by; see ctworker.__main__."""
