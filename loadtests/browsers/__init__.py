"""Browsers for locust: peers on the project's sans-IO layers over gevent sockets.

Must never import asyncio code or a client that stands on it: locust runs in a process of its own, under gevent.
"""

from typing import Final

SHAPES: Final = ("ramp", "soak", "storm")
"""How the number of users may go over time; shapes.py has what they mean, and needs locust."""
