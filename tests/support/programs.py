"""Foreign peers that are programs of their own, driven by lines of JSON over a pair of pipes.

Each program takes calls on standard input and ends with it. Nothing here may know the relay's own code, nor what a call
means: that is told in `peers.py` and done by the programs.
"""

import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.builds import ROOT
from tests.support.peers import CALL_TIMEOUT_S, Link, Peer, PeerCallError

END_TIMEOUT_S = 10.0
LOG_BYTES = 4000


@dataclass(frozen=True)
class Limit:
    """What a peer was told of a circuit's limit, in each direction."""

    seconds: int
    bytes: int


class ProgramPeer(Peer):
    """Starts the program at once and does not wait for it: the first call does. `environ` is put on top of ours."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the peer ends)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read_answers, name=f"{name}-answers", daemon=True)
        self._reader.start()

    def call(self, name: str, **argument: Any) -> Any:
        """Run one call in the program."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": name, "argument": argument}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=CALL_TIMEOUT_S)
        except (queue.Empty, BrokenPipeError) as error:
            raise PeerCallError(f"{name}: no answer from {self._name}\n{self._log()}") from error
        if not line:
            raise PeerCallError(f"{name}: {self._name} has ended\n{self._log()}")
        answer = json.loads(line)
        if "failure" in answer:
            raise PeerCallError(f"{name}: {answer['failure']}\n{self._log()}")
        return answer["value"]

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _log(self) -> str:
        """The end of what the program logged; read without moving the position at which the program writes."""
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=END_TIMEOUT_S)
        finally:
            self._reader.join(timeout=END_TIMEOUT_S)
            self._process.stdout.close()
            self._stderr.close()


class BuiltPeer(ProgramPeer):
    """A peer that also says what the relay granted: go-libp2p and rust-libp2p tell their applications."""

    def reserve(self, relay: str) -> dict[str, Any]:
        """Ask the relay at this address for a reservation; what the library made of the answer."""
        granted: dict[str, Any] = self.call("reserve", relay=relay)
        return granted

    def limit_of(self, link: Link) -> Limit | None:
        """The limit of a connection as its own end sees it; None when there is none."""
        (found,) = [described for described in self.call("connections") if described["id"] == link.id]
        return limit_in(found)

    def await_hole_punching(self) -> None:
        """Return once the peer, which knows a relay, has been told an address of its own that it can tell in DCUtR."""
        self.call("awaitHolePunching")


class GoPeer(BuiltPeer):
    """A go-libp2p peer (tests/interop/go)."""

    def __init__(
        self, program: Path, environ: Mapping[str, str] | None = None, *, within: Sequence[str] | None = None
    ) -> None:
        super().__init__("go-libp2p", command_line(program, within), environ)

    def start_auto_relay(self, relay: str) -> list[str]:
        """Start with AutoRelay and this relay; the addresses that the host lists once it has reserved."""
        started = self.call("startAutoRelay", relay=relay)
        self.peer_id = started["peer"]
        addresses: list[str] = started["addresses"]
        return addresses


class RustPeer(BuiltPeer):
    """A rust-libp2p peer (tests/interop/rust)."""

    def __init__(
        self, program: Path, environ: Mapping[str, str] | None = None, *, within: Sequence[str] | None = None
    ) -> None:
        super().__init__("rust-libp2p", command_line(program, within), environ)

    def reservations(self) -> list[dict[str, Any]]:
        """Every grant so far, renewals included."""
        granted: list[dict[str, Any]] = self.call("reservations")
        return granted


def command_line(program: Path, within: Sequence[str] | None) -> list[str]:
    """`within` is what to put in front of the command, for a peer behind a NAT: such a peer has DCUtR."""
    return [str(program)] if within is None else [*within, str(program), "-hole-punching"]


def limit_in(described: dict[str, Any]) -> Limit | None:
    """The limit in what a peer tells of a reservation or a connection."""
    found = described["limit"]
    return None if found is None else Limit(found["seconds"], found["bytes"])
