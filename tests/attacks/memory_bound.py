"""What a relay may take at the most, from the constants that bound it: the table in docs/attacks.md says the same."""

from __future__ import annotations

from typing import Final

from actors import hop
from config.settings import Limits
from transports.noise import MAX_MESSAGE_BYTES
from transports.websocket import MAX_FRAME_BYTES
from transports.wire import OUTPUT_LIMIT_BYTES
from transports.yamux_frames import INITIAL_WINDOW_BYTES

KIB: Final = 1024
IDLE_BYTES: Final = 32 * KIB
"""An upgraded connection with nothing under way: 14 KiB measured (docs/capacity.md), and room for its heap."""
STREAM_OBJECTS_BYTES: Final = 4 * KIB
"""Of a stream that has been opened: its objects, and the slack of the buffer that its message grows in."""


def of_connection(limits: Limits) -> dict[str, int]:
    """What one connection may hold, in bytes."""
    return {
        "a connection that is idle": IDLE_BYTES,
        "a WebSocket frame of which the last byte is missing, in a buffer that doubles": 2 * MAX_FRAME_BYTES,
        "a Noise message of which the last byte is missing": MAX_MESSAGE_BYTES + 1,
        "output for a peer that does not read": OUTPUT_LIMIT_BYTES,
        f"{limits.max_streams_per_connection} streams, each with a message of which the last byte is missing": (
            limits.max_streams_per_connection * (hop.MAX_MESSAGE_BYTES + STREAM_OBJECTS_BYTES)
        ),
    }


def of_circuit() -> int:
    """What one circuit may hold, both directions together."""
    return 2 * INITIAL_WINDOW_BYTES


def in_all(limits: Limits) -> int:
    """What all connections and circuits may hold together."""
    return limits.max_connections * sum(of_connection(limits).values()) + limits.max_circuits * of_circuit()


def rows(limits: Limits) -> list[str]:
    """The lines of the document."""
    parts = of_connection(limits)
    each, circuits = sum(parts.values()) // KIB, of_circuit() // KIB
    total = f"{limits.max_connections:,} × {each:,} KiB + {limits.max_circuits:,} × {circuits:,} KiB"
    return [
        *(f"| {name} | {size // KIB:,} |" for name, size in parts.items()),
        f"| **one connection** | **{each:,}** |",
        f"| **one circuit**, a window in each direction | **{circuits:,}** |",
        f"{total} = {in_all(limits) / (1 << 30):.1f} GiB",
    ]
