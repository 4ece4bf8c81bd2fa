"""The relays that are compared: how each is built, started and ended. For all a command that prints addresses.

Standard error goes to a file, as it does in production, and into the error when a relay does not start.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from loadtests.doors import Door, PlacedDoor, Placement
from loadtests.meter import Meter
from tests.support import builds
from tests.support.certificate import loopback_certificate

PEERS: Final = Path(__file__).parent / "peers"
CACHE: Final = builds.ROOT / ".cache" / "bench"
START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 15.0
ADMIN_LINE: Final = re.compile(r"admin ready url=(http://\S+)")
# Everything on, and so far away that it refuses nobody: a limit that is off would not be computed.
GENEROUS: Final = (
    "limits.max_reservations=100000",
    "limits.max_circuits=100000",
    "limits.max_circuits_per_peer=100000",
    "limits.max_reservations_per_ip=100000",
    "limits.circuit_bytes=1000000000000",
    "limits.circuit_duration_s=86400",
    *(f'limits.{what}_rate_per_{whom}="1000000/1m"' for what in ("reservation", "circuit") for whom in ("peer", "ip")),
    "limits.max_connections=100000",
    "limits.max_connections_per_ip=100000",
    'limits.connection_rate_per_ip="1000000/1m"',
    "limits.max_pending_handshakes=10000",
    'access.deny_subnets=["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]',
    'admin.listen="127.0.0.1:0"',
    'log.level="info"',
)


class StartError(Exception):
    """A relay did not come up; the text has the end of its log."""


class RelayProgram:
    """A relay that runs for as long as the block does."""

    def __init__(self, command: Sequence[str], printed: int) -> None:
        """`printed` is how many addresses the command prints when it serves."""
        self._command = command
        self._printed = printed
        self.addresses: list[str] = []

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="frost-relay-bench-"))
        self._log = self.folder / "log"
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    self.command(),
                    cwd=builds.ROOT,
                    env={**os.environ, "XDG_RUNTIME_DIR": str(self.folder)},
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            self._await_addresses()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.meter = Meter(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self) -> Sequence[str]:
        """What to start."""
        return self._command

    @property
    def log(self) -> str:
        """The end of what the relay has said so far."""
        return self._log.read_text(errors="replace")[-4000:]

    @property
    def pid(self) -> int:
        """The process that was started; others may be below it."""
        return self._process.pid

    def door(self) -> Door:
        """How clients reach it: over WebSocket."""
        return Door(self.address("/ws/"))

    def address(self, mark: str) -> str:
        """The first address with this in it."""
        return next(address for address in self.addresses if mark in address)

    def _await_addresses(self) -> None:
        assert self._process.stdout is not None
        fd, text, end = self._process.stdout.fileno(), b"", time.monotonic() + START_LIMIT_S
        while text.count(b"\n") < self._printed:
            ready = select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]
            chunk = os.read(fd, 65536) if ready else b""
            if not chunk:
                raise StartError(f"it prints no address and says {self.log[-500:]!r}")
            text += chunk
        self.addresses = text.decode().split()


class OurRelay(RelayProgram):
    """FROST Relay with everything on: a WebSocket listener of so many workers, and one for TCP."""

    def __init__(self, workers: int = 1, placement: Placement = Placement.ANYWHERE, pairs: int = 0) -> None:
        super().__init__([sys.executable], 2)
        self._workers = workers
        self._placement = placement
        self._pairs = pairs

    def listener(self) -> str:
        """The listener that clients come to, as the text of a setting."""
        return f'{{address = "/ip4/127.0.0.1/tcp/0/ws", workers = {self._workers}}}'

    def command(self) -> Sequence[str]:
        """The settings are known once there is a folder for the key."""
        texts = (
            *GENEROUS,
            f'identity.key_file="{self.folder}/relay.key"',
            f'admin.control_socket="{self.folder}/control.sock"',
            f'listeners=[{self.listener()}, {{address = "/ip4/127.0.0.1/tcp/0", workers = 1}}]',
        )
        settings = (part for text in texts for part in ("--set", text))
        return [*self._command, "-m", "supervisor.cli", "run", *settings]

    def door(self) -> Door:
        """Two peers come to the workers that they were meant for."""
        if self._placement is Placement.ANYWHERE:
            return super().door()
        return PlacedDoor(self.address("/ws/"), self.workers("ws-"), self._placement, self._pairs)

    def workers(self, name: str) -> list[int]:
        """The processes whose slots begin with `name`."""
        return [pid for slot, pid in self.processes().items() if slot.startswith(name)]

    def processes(self) -> dict[str, int]:
        """The processes that do the work, by the names of their slots."""
        return {row["name"]: row["pid"] for row in self.status()}

    def status(self) -> list[dict[str, Any]]:
        """What /status.json says of each process."""
        end = time.monotonic() + START_LIMIT_S
        while not (found := ADMIN_LINE.search(self._log.read_text())):
            if time.monotonic() > end:
                raise StartError(f"it has no admin server and says {self.log[-500:]!r}")
            time.sleep(0.02)
        with urllib.request.urlopen(f"{found[1]}/status.json", timeout=START_LIMIT_S) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["workers"]
        return rows


class OurSecureRelay(OurRelay):
    """FROST Relay over TLS."""

    def listener(self) -> str:
        """One worker, with a certificate of its own."""
        self._certificate, key = loopback_certificate(self.folder)
        files = f'cert_file = "{self._certificate}", key_file = "{key}"'
        return f'{{address = "/ip4/127.0.0.1/tcp/0/tls/ws", workers = 1, {files}}}'

    def door(self) -> Door:
        """The clients trust the certificate, and check it."""
        return Door(self.address("/tls/ws/"), ssl.create_default_context(cafile=str(self._certificate)))


def go_relay() -> RelayProgram:
    """go-libp2p, built if need be."""
    return RelayProgram([str(builds.go_program(PEERS / "go", CACHE))], 2)


def rust_relay() -> RelayProgram:
    """rust-libp2p, built if need be."""
    return RelayProgram([str(builds.rust_program(PEERS / "rust", CACHE, "release"))], 2)


def js_relay() -> RelayProgram:
    """js-libp2p on the Node of its lock file, installed if need be."""
    modules = builds.node_modules(PEERS / "js", CACHE)
    shutil.copy(PEERS / "js" / "relay.js", modules)  # imports are looked up beside the file that has them
    return RelayProgram([str(node(modules)), str(modules / "relay.js")], 2)


def node(modules: Path) -> Path:
    """The Node that was installed with the packages."""
    return next(modules.glob("node_modules/node-linux-*/bin/node"))


def py_relay() -> RelayProgram:
    """py-libp2p, which the tests have."""
    return RelayProgram([sys.executable, str(PEERS / "py" / "relay.py")], 2)


def is_built(kind: str) -> bool:
    """Whether the relay of this language ("go", "rust") can be started without building it first."""
    key = {"go": builds.go_key, "rust": builds.rust_key}[kind]
    with suppress(builds.MissingError):
        return builds.place(CACHE, kind, key(PEERS / kind)).is_dir()
    return False
