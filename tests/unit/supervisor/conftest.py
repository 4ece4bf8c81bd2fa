"""What the supervisor changes for the whole process is put back after each test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from actors import log


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    output = log.OUTPUT
    before = output.sink, output.threshold, output.setter, output.dropped, root.handlers[:], root.level
    yield
    output.sink, output.threshold, output.setter, output.dropped, root.handlers[:], level = before
    root.setLevel(level)


@pytest.fixture(autouse=True)
def untouched_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
