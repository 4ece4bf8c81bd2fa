"""A real relay process for tests: starts `python -m supervisor.cli run`, reads what it says, kills parts of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 30.0
HTTP_TIMEOUT_S = 10.0
_ADMIN_LINE = re.compile(r"admin ready url=(http://\S+)")
_RATES = (
    "reservation_rate_per_peer",
    "reservation_rate_per_ip",
    "circuit_rate_per_peer",
    "circuit_rate_per_ip",
    "connection_rate_per_ip",
)


def _connect(where: tuple[str, int]) -> socket.socket:
    return socket.create_connection(where, HTTP_TIMEOUT_S)


class RelayProcess:
    """Context manager. `settings` are --set texts on top of: files of its own, admin on a free port, rates off.

    Without `listeners` they are the configuration file's.

    A relay in another network namespace needs a `prefix` to its command and a way to `connect` to its admin server.
    """

    def __init__(
        self,
        *settings: str,
        listeners: Sequence[str] = ("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0"),
        workers: int = 1,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = ("-m", "supervisor.cli", "run"),
        prefix: Sequence[str] = (),
        connect: Callable[[tuple[str, int]], socket.socket] = _connect,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="frost-relay-test-"))
        self.control_socket = self.directory / "control.sock"
        table = ", ".join(f'{{address = "{address}", workers = {workers}}}' for address in listeners)
        self._texts = [
            f'identity.key_file="{self.directory}/relay.key"',
            'admin.listen="127.0.0.1:0"',
            f'admin.control_socket="{self.control_socket}"',
            *([f"listeners=[{table}]"] if listeners else []),
            *(f'limits.{rate}="off"' for rate in _RATES),
            *settings,
        ]
        self._command = [*prefix, sys.executable, *command]
        self._connect = connect
        self._env = {**os.environ, "XDG_RUNTIME_DIR": str(self.directory), **(env or {})}
        self._env.pop("RUNTIME_DIRECTORY", None)
        self._lines: list[str] = []
        self._stderr: list[str] = []
        self.addresses: list[str] = []
        self.peer_id = ""
        self.admin_url = ""

    def __enter__(self) -> Self:
        arguments = [*self._command]
        for text in self._texts:
            arguments += ["--set", text]
        self.process = subprocess.Popen(
            arguments, cwd=ROOT, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read_stderr, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        try:
            self._await_start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()  # the tree goes with main
                self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        if error is not None:
            sys.stderr.write(f"--- standard error of the relay ---\n{self.stderr}\n---\n")

    def _read_stderr(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self._stderr.append(line.decode(errors="replace"))

    def _await_start(self) -> None:
        """All addresses are printed in one write, when every slot serves."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        end = time.monotonic() + START_LIMIT_S
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the relay is not up after {START_LIMIT_S} s:\n{self.stderr}")
            chunk = os.read(fd, 65536)
            if not chunk:
                self.process.wait()
                self._reader.join(5)
                raise RuntimeError(f"the relay ended with {self.process.returncode}:\n{self.stderr}")
            text += chunk
        self.addresses = text.decode().split()
        self.peer_id = self.addresses[0].rpartition("/p2p/")[2]
        while not self.admin_url and 'admin.listen=""' not in self._texts:
            found = _ADMIN_LINE.search(self.stderr)
            if found:
                self.admin_url = found[1]
            elif time.monotonic() > end:
                raise TimeoutError(f"no admin address in:\n{self.stderr}")
            else:
                time.sleep(0.01)

    @property
    def stderr(self) -> str:
        """Everything on standard error so far."""
        return "".join(self._stderr)

    @property
    def pid(self) -> int:
        """Process ID of main."""
        return self.process.pid

    def address(self, transport: str) -> str:
        """The first printed address of a transport: "ws", "wss" or "tcp"."""
        marks = {"ws": "/ws/p2p/", "wss": "/tls/ws/p2p/", "tcp": ""}
        for each in self.addresses:
            kind = "wss" if marks["wss"] in each else "ws" if marks["ws"] in each else "tcp"
            if kind == transport:
                return each
        raise LookupError(f"no {transport} address in {self.addresses}")

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[int, str]:
        """One HTTP request to the admin server: status and body."""
        where = urlsplit(self.admin_url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port)
        try:
            connection.sock = self._connect((connection.host, connection.port))
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """The content of /status.json."""
        status, body = self.get("/status.json")
        assert status == 200, (status, body)
        result: dict[str, Any] = json.loads(body)
        return result

    def wait_status(self, predicate: Callable[[dict[str, Any]], bool], timeout_s: float = 10) -> dict[str, Any]:
        """Poll the status until the predicate holds, also across a restart of the admin process."""
        end = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < end:
            try:
                last = status = self.status()
                if predicate(status):
                    return status
            except (OSError, http.client.HTTPException) as error:
                last = error
            time.sleep(0.02)
        raise TimeoutError(f"still not after {timeout_s} s: {last}\n{self.stderr}")

    def worker(self, name: str) -> dict[str, Any]:
        """The row of one process, by its slot's name."""
        for each in self.status()["workers"]:
            if each["name"] == name:
                row: dict[str, Any] = each
                return row
        raise LookupError(name)

    def workers(self, role: str) -> list[dict[str, Any]]:
        """The rows of all processes of one role."""
        return [each for each in self.status()["workers"] if each["role"] == role]

    def pids(self) -> dict[str, int]:
        """Process ID of every slot, by its name."""
        return {each["name"]: each["pid"] for each in self.status()["workers"]}

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process of a slot; returns its process ID."""
        pid: int = self.worker(name)["pid"]
        os.kill(pid, sig)
        return pid

    def reload(self) -> dict[str, Any]:
        """Send SIGHUP, and wait for what came of it: the outcome in the status."""
        begun = self.status()["reload"]["begun"]
        self.process.send_signal(signal.SIGHUP)
        status = self.wait_status(lambda now: any(each["number"] > begun for each in now["reload"]["outcomes"]))
        return next(each for each in status["reload"]["outcomes"] if each["number"] > begun)

    def stop(self, sig: signal.Signals = signal.SIGTERM, timeout_s: float = 10) -> int:
        """Signal main and wait for its end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        return code
