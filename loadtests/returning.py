"""FROST Relay at one address with one key, so that it can be stopped and started again under its peers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.relays import GENEROUS, RelayProgram


class ReturningRelay(RelayProgram):
    """One start of it. The next one with the same `home` and `port` is the same relay to its peers."""

    def __init__(self, home: Path, port: int, workers: int, settings: Sequence[str] = ()) -> None:
        """`home` is where the key stays, `workers` how many processes share the WebSocket port."""
        super().__init__([sys.executable], 1)
        self._home = home
        self._listener = f'{{address = "/ip4/127.0.0.1/tcp/{port}/ws", workers = {workers}}}'
        self._settings = settings

    def command(self) -> Sequence[str]:
        """With everything on, and limits so far away that they refuse nobody."""
        texts = (
            *GENEROUS,
            'limits.connection_rate_per_ip="1000000/1m"',
            f'identity.key_file="{self._home}/relay.key"',
            f'admin.control_socket="{self.folder}/control.sock"',
            f"listeners=[{self._listener}]",
            *self._settings,
        )
        return [*self._command, "-m", "supervisor.cli", "run", *(part for text in texts for part in ("--set", text))]
