"""The counters of the data plane and how they survive a process.

Each process counts into a memory-mapped file of its own in the directory that PROMETHEUS_MULTIPROC_DIR names; the admin
process adds them up (supervisor/metrics.py). The file belongs to the slot, not to the process: a successor counts on
where its predecessor ended, and the directory does not grow with restarts. Without that variable, as in tests, counters
are plain numbers. Labels take a small fixed set of values only: never a peer ID, never an address.

An increment costs about 1 µs (measured): fine for an event, too dear for a message. Add bytes when a circuit ends, or
once a second.
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import Counter, values

from actors.circuit import End
from actors.limits import Reason

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_owner = "boot"


def _file_owner() -> str:
    return _owner


def adopt(owner: str) -> None:
    """Count into this slot's file from now on. Called once, after the fork."""
    global _owner  # noqa: PLW0603 - prometheus_client asks for it through a function without arguments
    _owner = owner


if DIRECTORY_VARIABLE in os.environ:
    values.ValueClass = values.MultiProcessValue(_file_owner)  # type: ignore[no-untyped-call]


class LabelledCounter(Counter):
    """A Counter that knows its series by their labels in 0.2 µs, where the library's own look-up takes 1.7.

    One of its series is for those who know what they count: it is not asked whether it has its labels.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._series: dict[tuple[str, ...], Counter] = {}
        super().__init__(*args, **settings)

    def labels(self, *values: str) -> Counter:  # type: ignore[override]  # one of its two ways
        """The series with these label values, in the order of the label names."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = super().labels(*values)
        return series

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Count; the library would ask first whether the labels are there and the amount is positive: as long again."""
        self._value.inc(amount)


CONNECTIONS = LabelledCounter("frost_relay_connections_accepted", "Connections accepted.", ["transport"])
CONNECTIONS_ENDED = LabelledCounter("frost_relay_connections_ended", "Connections that ended, by reason.", ["reason"])
HANDSHAKES = LabelledCounter("frost_relay_handshakes", "Upgrades that ended, by outcome: ok, or why not.", ["outcome"])
RESERVATIONS = LabelledCounter("frost_relay_reservations_granted", "Reservations granted.", ["kind"])
"""kind: new, renewed."""
CIRCUITS_OPENED = Counter("frost_relay_circuits_opened", "Circuits opened.")
CIRCUITS_ENDED = LabelledCounter("frost_relay_circuits_ended", "Circuits that ended, by reason.", ["reason"])
BYTES_RELAYED = LabelledCounter("frost_relay_relayed_bytes", "Payload bytes relayed, by direction.", ["direction"])
"""direction: to_target, to_source."""
REFUSALS = LabelledCounter("frost_relay_refusals", "Requests and connections refused, by reason.", ["reason"])
"""reason: actors.limits.Reason."""
REQUESTS_REFUSED = LabelledCounter(
    "frost_relay_requests_refused", "Hop requests refused, by what was asked and the status.", ["asked", "status"]
)
"""asked: reserve, connect, or hop when neither could be read; status: actors.limits.Status in lower case."""
PEER_ERRORS = LabelledCounter(
    "frost_relay_peer_errors", "Connections and streams ended by the peer's fault, by reason.", ["reason"]
)
"""reason: transports.errors.PeerError.reason."""
FORWARDED_IGNORED = LabelledCounter(
    "frost_relay_forwarded_ignored", "X-Forwarded-For headers that were not followed, by reason.", ["reason"]
)
"""reason: untrusted (not from a trusted proxy), unusable (a trusted proxy's, that names no client)."""
CERTIFICATE_LOADS = Counter(
    "frost_relay_certificate_loads", "Renewed certificates found by a listener, by outcome.", ["outcome"]
)
"""outcome: ok, refused."""
ACCEPT_PAUSES = Counter("frost_relay_accept_pauses", "Times a worker let newcomers wait because its event loop lagged.")
FAULTS = Counter("frost_relay_faults", "Faults of the relay's own; each is in the log with its stack.")


def show_zeros() -> None:
    """Make every series whose labels are known exist from the start: an alert on one that is not there never fires."""
    for reason in Reason:
        REFUSALS.labels(reason.value)
    for end in End:
        CIRCUITS_ENDED.labels(end.value)
    for direction in ("to_target", "to_source"):
        BYTES_RELAYED.labels(direction)
    for kind in ("new", "renewed"):
        RESERVATIONS.labels(kind)
    for transport in ("tcp", "ws", "wss"):
        CONNECTIONS.labels(transport)
    for why in ("untrusted", "unusable"):
        FORWARDED_IGNORED.labels(why)
    HANDSHAKES.labels("ok")
    for outcome in ("ok", "refused"):
        CERTIFICATE_LOADS.labels(outcome)


__all__ = [
    "ACCEPT_PAUSES",
    "BYTES_RELAYED",
    "CERTIFICATE_LOADS",
    "CIRCUITS_ENDED",
    "CIRCUITS_OPENED",
    "CONNECTIONS",
    "CONNECTIONS_ENDED",
    "FAULTS",
    "FORWARDED_IGNORED",
    "HANDSHAKES",
    "PEER_ERRORS",
    "REFUSALS",
    "REQUESTS_REFUSED",
    "RESERVATIONS",
    "adopt",
    "show_zeros",
]
