"""Whether the service grows and shrinks with its load, and what it does past its capacity: ``python -m benchmarks.scaling``."""
