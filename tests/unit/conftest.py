"""Generated cases are the same on every run and machine, and nothing is decided by how long one took."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("unit")
