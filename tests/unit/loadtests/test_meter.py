"""CPU and memory of a tree of processes, read from outside."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtests.meter import Meter, TreeChangedError, cpu_s, tree

# A parent with one child. The child burns CPU when it is told to, and says when it has.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
child.wait()
"""
CHILD = """
import sys, time
print("up", flush=True)
for line in sys.stdin:
    begin = time.process_time()
    while time.process_time() - begin < float(line): pass
    print("done", flush=True)
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process


def _told(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_what_a_child_burns_counts_for_the_tree(parent: subprocess.Popen[str]) -> None:
    meter = Meter(parent.pid)
    before, of_parent = meter.cpu_s(), cpu_s([parent.pid])
    _told(parent, "0.2")
    assert meter.cpu_s() - before >= 0.2
    assert cpu_s([parent.pid]) - of_parent < 0.1


def test_a_tree_is_a_process_and_all_below_it(parent: subprocess.Popen[str]) -> None:
    assert tree(parent.pid)[0] == parent.pid
    assert len(tree(parent.pid)) == 2
    assert Meter(parent.pid).memory_bytes() > 1 << 20


def test_a_process_that_ends_while_it_is_measured_is_an_error(parent: subprocess.Popen[str]) -> None:
    meter = Meter(parent.pid)
    assert parent.stdin is not None
    parent.stdin.close()
    parent.wait()
    with pytest.raises((TreeChangedError, FileNotFoundError)):
        meter.cpu_s()
