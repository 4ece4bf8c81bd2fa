"""FROST Relay at one address with one key, so that it can be stopped and started again under its peers."""

from __future__ import annotations

import socket
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


def free_port() -> int:
    """A port that nobody has now, outside the range from which the kernel takes those of clients."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(low - 1, 1024, -7):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if not probe.connect_ex(("127.0.0.1", port)):
                continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port below {low}")
