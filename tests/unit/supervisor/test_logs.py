from __future__ import annotations

import json
import logging
import os
import pty
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import log
from supervisor import logs

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "log"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    yield fd, path
    os.close(fd)


def test_a_text_line_has_time_level_name_event_and_fields(file: tuple[int, Path]) -> None:
    logs.configure("info", "text", file[0])
    log.get_logger("listener").info("reservation granted", peer="12D3KooW", address="/ip4/192.0.2.1/tcp/1")
    line = file[1].read_text()
    assert re.fullmatch(
        TIME + r" info  listener: reservation granted peer=12D3KooW address=/ip4/192\.0\.2\.1/tcp/1\n", line
    )


def test_a_json_line_is_one_object(file: tuple[int, Path]) -> None:
    logs.configure("info", "json", file[0])
    log.get_logger("listener").warning("refused", reason="circuits_full", count=3)
    entry = json.loads(file[1].read_text())
    assert re.fullmatch(TIME, entry.pop("time"))
    assert entry == {
        "level": "warning",
        "logger": "listener",
        "event": "refused",
        "reason": "circuits_full",
        "count": 3,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_value_cannot_forge_a_line(file: tuple[int, Path], form: str) -> None:
    logs.configure("info", form, file[0])
    log.get_logger("listener").info("hello", agent='x\n2026 error system: all lost a="b"\x1b[2J')
    text = file[1].read_text()
    assert text.count("\n") == 1
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", ["debug", "info", "warning", "error"]), ("info", ["info", "warning", "error"]),
     ("warning", ["warning", "error"]), ("error", ["error"])],
)  # fmt: skip
def test_lines_below_the_level_are_not_written(file: tuple[int, Path], level: str, shown: list[str]) -> None:
    logs.configure(level, "json", file[0])
    logger = log.get_logger("x")
    logger.debug("d")
    logger.info("i")
    logger.warning("w")
    logger.error("e")
    assert [json.loads(line)["level"] for line in file[1].read_text().splitlines()] == shown


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_written_with_its_stack(file: tuple[int, Path], form: str) -> None:
    logs.configure("info", form, file[0])
    try:
        raise ValueError("why not")
    except ValueError:
        log.get_logger("x").exception("failed")
    text = file[1].read_text()
    assert "ValueError: why not" in text
    assert "test_logs.py" in text


def test_libraries_speak_through_the_same_form_when_something_is_wrong(file: tuple[int, Path]) -> None:
    logs.configure("info", "json", file[0])
    logging.getLogger("picows").info("routine")
    logging.getLogger("picows").warning("odd %s", "thing")
    (line,) = file[1].read_text().splitlines()
    assert json.loads(line)["event"] == "odd thing"


def fill(pipe: int) -> None:
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        return


def full_pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    fill(write_end)
    os.set_blocking(write_end, True)
    return read_end, write_end


def test_a_full_pipe_drops_lines_and_tells_when_it_is_read_again() -> None:
    read_end, write_end = full_pipe()
    logs.configure("info", "text", write_end)
    logger = log.get_logger("x")
    for _ in range(5):
        logger.info("lost")
    assert log.OUTPUT.dropped == 5
    os.read(read_end, 1 << 20)
    logger.info("heard")
    text = os.read(read_end, 1 << 20).decode()
    assert "lines dropped count=5" in text
    assert text.endswith("x: heard\n")
    assert os.get_blocking(write_end), "the descriptor that others share must stay as it was"
    os.close(read_end)
    os.close(write_end)


def test_a_pipe_that_nobody_reads_any_more_harms_nobody() -> None:
    read_end, write_end = os.pipe()
    logs.configure("info", "text", write_end)
    os.close(read_end)
    log.get_logger("x").info("to nobody")
    assert log.OUTPUT.dropped == 1
    os.close(write_end)


def test_a_socket_whose_reader_sleeps_drops_lines() -> None:
    ours, theirs = socket.socketpair()
    logs.configure("info", "text", ours.fileno())
    logger = log.get_logger("x")
    for _ in range(20_000):
        logger.info("a line that is long enough to fill a buffer some day", filler="y" * 200)
        if log.OUTPUT.dropped:
            break
    assert log.OUTPUT.dropped
    assert ours.getblocking()
    ours.close()
    theirs.close()


def test_what_a_short_write_left_over_comes_before_the_next_line() -> None:
    got: list[bytes] = []

    def write(data: bytes) -> int:
        got.append(data[:10])
        return min(10, len(data))

    writer = logs.Writer(write)
    writer.line("a" * 24)
    writer.line("b")
    writer.line("c")
    assert b"".join(got) == b"a" * 24 + b"\n" + b"b\n" + b"c\n"


def test_a_terminal_is_written_to() -> None:
    leader, follower = pty.openpty()
    logs.configure("info", "text", follower)
    log.get_logger("x").info("seen")
    assert b"x: seen" in os.read(leader, 1000)
    os.close(leader)
    os.close(follower)


def test_what_cannot_be_opened_again_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_reopened", lambda fd: None)
    read_end, write_end = full_pipe()
    write = logs.destination(write_end)
    with pytest.raises(BlockingIOError):
        write(b"line\n")
    os.read(read_end, 1 << 20)
    assert write(b"line\n") == 5
    os.close(read_end)
    os.close(write_end)


def test_level_and_format_can_be_changed_while_it_runs(file: tuple[int, Path]) -> None:
    logs.configure("warning", "text", file[0])
    logger = log.get_logger("test")
    logger.info("unheard")
    log.OUTPUT.change("info", "json")
    logger.info("heard")
    (line,) = file[1].read_text().splitlines()
    assert json.loads(line)["event"] == "heard"


@pytest.mark.parametrize("form", ["text", "json"])
def test_strict_privacy_leaves_out_where_a_peer_is_and_keeps_all_else(file: tuple[int, Path], form: str) -> None:
    logs.configure("info", form, file[0], privacy="strict")
    log.get_logger("peer").info("refused", peer="12D3KooW", address="192.0.2.1:1", forwarded="192.0.2.2", status=200)
    logs.configure("info", form, file[0])
    log.get_logger("peer").info("refused", address="192.0.2.3:1")
    strict, open_again = file[1].read_text().splitlines()
    assert "192.0.2" not in strict
    assert "12D3KooW" in strict
    assert "200" in strict
    assert "192.0.2.3:1" in open_again
