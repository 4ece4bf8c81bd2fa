"""The counters' files: all their blocks from the start, and room for every series that there can be."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import ConfigError
from supervisor import counter_files
from tests.support.builds import ROOT

EVERY_SERIES = """
from actors import hop, identify, listener, metrics, ping, worker  # all that know a reason
from actors.limits import Reason, Status
from transports.errors import PeerError

def reasons(kind):
    return {kind.reason}.union(*map(reasons, kind.__subclasses__())) if hasattr(kind, "reason") else set()

metrics.adopt("7")
metrics.show_zeros()
errors = reasons(PeerError) | {"identify", "hop_cut", "hop_timeout", "ping"}
for reason in errors:
    metrics.PEER_ERRORS.labels(reason)
for reason in errors | {each.value for each in Reason} | {"closed", "fault"}:
    metrics.CONNECTIONS_ENDED.labels(reason), metrics.HANDSHAKES.labels(reason)
for status in Status:
    for asked in ("reserve", "connect", "hop"):
        metrics.REQUESTS_REFUSED.labels(asked, status.name.lower())
"""


def test_every_block_is_there_from_the_start(tmp_path: Path) -> None:
    directory = counter_files.make(str(tmp_path), [0, 1])
    files = sorted(os.listdir(directory))
    assert files == ["counter_0.db", "counter_1.db", "counter_boot.db"]
    for name in files:
        found = os.stat(os.path.join(directory, name))
        assert found.st_size == counter_files.FILE_BYTES
        assert found.st_blocks * 512 >= counter_files.FILE_BYTES
        assert found.st_mode & 0o777 == 0o600


def test_all_series_there_can_be_leave_a_third_of_the_file_empty(tmp_path: Path) -> None:
    directory = counter_files.make(str(tmp_path), [7])
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory}
    subprocess.run([sys.executable, "-c", EVERY_SERIES], cwd=ROOT, env=env, check=True)
    content = (Path(directory) / "counter_7.db").read_bytes()
    assert len(content) == counter_files.FILE_BYTES
    assert 20_000 < struct.unpack_from("i", content)[0] < counter_files.FILE_BYTES * 2 // 3


def test_a_directory_that_cannot_be_made_is_said_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"RUNTIME_DIRECTORY.*a directory that can be written \(No such file"):
        counter_files.make(str(tmp_path / "gone"), [0])
