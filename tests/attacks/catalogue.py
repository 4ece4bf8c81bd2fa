"""The attacks as data: what each does, from how many addresses, and by which names it has to be seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.attacks import attackers
from tests.attacks.ground import Ground

FIRST_NETWORK: Final = 20


@dataclass(frozen=True)
class Sign:
    """A counter that must grow, and a line that must be written: how an operator sees it."""

    metric: str
    label: str
    value: str
    line: str
    """The event, as the log has it."""

    def __str__(self) -> str:
        return f'`{self.metric}{{{self.label}="{self.value}"}}`'


def refused(reason: str) -> Sign:
    """Somebody is refused for it."""
    return Sign("frost_relay_refusals_total", "reason", reason, f"refused asked=\\S+ reason={reason}")


def erred(reason: str, on: str = "peer") -> Sign:
    """A peer's fault; `on`: peer or stream."""
    return Sign("frost_relay_peer_errors_total", "reason", reason, f"{on} erred reason={reason}")


LEFT: Final = Sign("frost_relay_handshakes_total", "outcome", "closed", "left in the handshake reason=closed")
GRANTED: Final = Sign("frost_relay_reservations_granted_total", "kind", "new", "reservation granted")


@dataclass(frozen=True)
class Attack:
    """One way of being rude."""

    name: str
    what: str
    run: Callable[[Ground], Awaitable[None]]
    signs: tuple[Sign, ...]
    addresses: int = 8

    def where(self) -> list[str]:
        """The addresses that it comes from: its own, since rates remember who came before."""
        network = FIRST_NETWORK + ATTACKS.index(self)
        return [f"127.{network}.{1 + number // 250}.{1 + number % 250}" for number in range(self.addresses)]


ATTACKS: Final = (
    Attack("half-open", "400 TCP connections that say nothing", attackers.say_nothing,
           (refused("pending_handshakes_full"),)),
    Attack("slow-upgrade", "400 requests for a WebSocket, a byte every 0.2 s", attackers.upgrade_slowly,
           (refused("pending_handshakes_full"),)),
    Attack("begin-and-stay", "400 handshakes of which the relay does its part and the peer nothing more",
           attackers.begin_and_stay, (refused("pending_handshakes_full"),)),
    Attack("flood-1-address", "handshakes begun and left, as fast as they go, from one address",
           attackers.begin_and_leave, (refused("connection_rate_per_ip"),), addresses=1),
    Attack("flood-250-addresses", "the same from 250 addresses", attackers.begin_and_leave, (LEFT,), addresses=250),
    Attack("reset-in-frames", "RST in the middle of a frame, and right behind one", attackers.reset_in_frames,
           (LEFT,), addresses=250),
    Attack("giant-frames", "WebSocket frames of four exabytes, by their header", attackers.giant_frames,
           (erred("websocket"),)),
    Attack("endless-frames", "fragments and pings without end", attackers.endless_frames, (erred("websocket"),)),
    Attack("negotiation-loops", "names of protocols that nobody speaks, without end", attackers.negotiate_without_end,
           (erred("multistream", "stream"), erred("stream_flood"))),
    Attack("streams", "yamux streams, opened without end", attackers.open_streams, (erred("stream_flood"),)),
    Attack("open-and-reset", "yamux streams, opened and reset at once", attackers.open_and_reset,
           (erred("stream_flood"),)),
    Attack("pings", "pings of yamux, without end", attackers.ping_without_end, (erred("frame_flood"),)),
    Attack("late-data", "data for a stream that has ended, a byte a frame", attackers.send_too_late,
           (erred("frame_flood"),)),
    Attack("window-updates", "credit of one byte, without end", attackers.credit_without_end, (erred("frame_flood"),)),
    Attack("credit-overflow", "credit over 32 bits", attackers.overflow_the_credit, (erred("yamux"),)),
    Attack("window-overflow", "one byte more than the window", attackers.overflow_the_window, (erred("yamux"),)),
    Attack("never-read", "questions whose answers are not read", attackers.never_read, (erred("not_reading"),)),
    Attack("reserve", "RESERVE with fresh names and without end, from one address", attackers.reserve_without_end,
           (refused("reservation_rate_per_ip"),), addresses=1),
    Attack("connect", "CONNECT to peers that are not here", attackers.call_strangers, (refused("no_reservation"),)),
    Attack("silent-targets", "CONNECT to targets that never answer", attackers.call_the_silent,
           (refused("circuits_per_target"),), addresses=40),
    Attack("2000-identities", "2,000 fresh identities that reserve and vanish", attackers.reserve_and_vanish,
           (GRANTED,), addresses=250),
    Attack("random-bytes", "random bytes at every layer", attackers.random_bytes,
           (erred("http_request"), erred("noise"), erred("websocket"), erred("yamux"), refused("malformed_message")),
           addresses=40),
)  # fmt: skip
