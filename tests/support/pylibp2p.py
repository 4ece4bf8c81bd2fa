"""A py-libp2p peer in a process of its own (tests/support/pylibp2p_program.py), driven over a pair of pipes."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import Any, Self

from tests.support.peers import CALL_TIMEOUT_S, Peer, PeerCallError
from tests.support.toolchain import ROOT

END_TIMEOUT_S = 10.0
LOG_BYTES = 4000


class PyPeer(Peer):
    """Starts the program at once and does not wait for it: the first call does."""

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the peer ends)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.pylibp2p_program"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read_answers, name="py-peer-answers", daemon=True)
        self._reader.start()

    def call(self, name: str, **argument: Any) -> Any:
        """Run one call in the program."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": name, "argument": argument}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=CALL_TIMEOUT_S)
        except (queue.Empty, BrokenPipeError) as error:
            raise PeerCallError(f"{name}: no answer from py-libp2p\n{self._log()}") from error
        if not line:
            raise PeerCallError(f"{name}: py-libp2p has ended\n{self._log()}")
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
